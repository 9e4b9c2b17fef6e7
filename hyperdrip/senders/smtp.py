"""The SMTP sender: connections kept open over waves, one thread for each."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from ssl import SSLContext

import psycopg

from hyperdrip.errors import HyperdripError, RenderError, SettingsError
from hyperdrip.models import Claim, Mail
from hyperdrip.senders import Outcome, Refused, Retry, Unknown, Unwritten
from hyperdrip.senders.kit import Kit, require_mail_settings
from hyperdrip.senders.smtp_replies import PolicyWatch, Verdict
from hyperdrip.senders.smtp_session import ServerRefuses, Session, make_context
from hyperdrip.senders.smtp_wire import Timeouts
from hyperdrip.smtp_url import SmtpServer

log = logging.getLogger("hyperdrip.smtp")

TICK_SECONDS = 1.0


@dataclass(frozen=True)
class _Answer:
    """What a line has to report: ready (no claim), or what came of a message."""

    line: "_Line"
    claim: Claim | None = None
    verdict: Verdict | None = None
    refusal: str | None = None


Answers = SimpleQueue[_Answer]
Task = tuple[Answers, Claim | None, Mail | None]


@dataclass(eq=False)
class _Line:
    """One connection and the thread that talks over it. `tasks` end with None."""

    server: SmtpServer
    context: SSLContext
    timeouts: Timeouts
    tasks: SimpleQueue[Task | None] = field(default_factory=SimpleQueue)
    session: Session | None = None
    is_behind: bool = False  # at a message of a wave that nobody iterates any more
    thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to take tasks. A thread that hangs must not keep the process."""
        self.thread = threading.Thread(target=self._run, name="hyperdrip-smtp", daemon=True)
        self.thread.start()

    def is_ready(self) -> bool:
        """May a message be handed over without asking the line first? Only while it is idle."""
        session = self.session
        is_fresh = session is not None and session.is_fresh() and not session.is_spent()
        return is_fresh and not self.is_behind

    def _run(self) -> None:
        while True:
            try:
                task = self.tasks.get(timeout=self.timeouts.idle if self.session else None)
            except Empty:
                self._hang_up()
                continue
            if task is None:
                self._hang_up()
                return
            answers, claim, mail = task
            try:
                if claim is None or mail is None:
                    answers.put(_Answer(self, refusal=self._make_ready()))
                else:
                    answers.put(_Answer(self, claim, self._deliver(mail)))
            except Exception as error:  # a line that dies in silence would be waited for for ever
                log.exception("A connection to %s broke", self.server)
                self._drop()
                if claim is None:
                    answers.put(_Answer(self, refusal=f"{self.server}: {type(error).__name__}"))
                else:
                    verdict = Verdict(Unknown(f"the sender broke: {type(error).__name__}"))
                    answers.put(_Answer(self, claim, verdict))

    def _make_ready(self) -> str | None:
        """Have a session that lives; None, or why there is none."""
        self.is_behind = False
        if self.session is not None and self.session.is_spent():
            self._hang_up()
        if self.session is not None and not self.session.is_fresh():
            if self.session.is_alive():
                return None
            self._drop()
        if self.session is None:
            try:
                self.session = Session(self.server, self.context, self.timeouts)
            except ServerRefuses as error:
                return str(error)
        return None

    def _deliver(self, mail: Mail) -> Verdict:
        """Hand over; what was lost before its final dot goes once more, on another connection."""
        started = time.monotonic()
        verdict = self._try(mail)
        if not verdict.is_lost or time.monotonic() - started > self.timeouts.second_try:
            return verdict
        refusal = self._make_ready()
        if refusal is not None:
            return Verdict(Refused(refusal))
        if time.monotonic() - started > self.timeouts.second_try:
            return verdict
        return self._try(mail)

    def _try(self, mail: Mail) -> Verdict:
        if self.session is None:
            return Verdict(Retry("there is no connection"), is_lost=True)
        verdict = self.session.deliver(mail)
        if verdict.is_lost or isinstance(verdict.outcome, Unknown):
            self._drop()
        return verdict

    def _hang_up(self) -> None:
        if self.session is not None:
            self.session.quit()
            self.session = None

    def _drop(self) -> None:
        if self.session is not None:
            self.session.close()
            self.session = None


class SmtpSender:
    """Hands messages to one mail server. What is unknown is never sent again by itself."""

    name = "smtp"
    is_quiet = False

    def __init__(
        self,
        server: SmtpServer,
        compose: Callable[[Claim], Mail],
        *,
        concurrency: int,
        timeouts: Timeouts | None = None,
    ) -> None:
        """`compose` writes the message of a claim, or raises RenderError.

        Raises: SettingsError when the certificates in `cafile` cannot be read.
        """
        self.wave_size = concurrency
        self._server = server
        self._compose = compose
        self._timeouts = timeouts or Timeouts()
        try:
            self._context = make_context(server)
        except OSError as error:
            raise SettingsError(
                f"SMTP_URL: cafile={server.cafile!r} holds no certificates that can be read:"
                f" {error.strerror or 'no PEM file'}"
            ) from None
        self._watch = PolicyWatch()
        self._idle: list[_Line] = []  # the last one used is taken first, so the others may go

    def close(self) -> None:
        """Say goodbye on all connections, without waiting long."""
        lines, self._idle = self._idle, []
        for line in lines:
            line.tasks.put(None)
        ends = time.monotonic() + 2 * self._timeouts.quit
        for line in lines:
            if line.thread is not None:
                line.thread.join(max(0.0, ends - time.monotonic()))

    def send_wave(
        self, claims: Sequence[Claim], may_send: Callable[[Claim], bool]
    ) -> Iterator[tuple[Claim, Outcome] | None]:
        """See Sender. A line is ready before `may_send` is asked for the message it will carry.

        As long as one connection stands, messages wait for it; when none does, or the server
        refuses us as a whole, all that are left are Refused without being asked for.
        """
        wave = _Wave(claims)
        try:
            yield from self._send(wave, may_send)
        finally:
            # A line takes its tasks one by one: what it is still at comes before the next wave's.
            for line in wave.sending:
                line.is_behind = True
            self._idle += [*wave.opening, *wave.sending, *wave.ready]

    def _send(
        self, wave: "_Wave", may_send: Callable[[Claim], bool]
    ) -> Iterator[tuple[Claim, Outcome] | None]:
        while wave.waiting or wave.sending:
            self._find_lines(wave)
            if wave.is_refused or not (wave.ready or wave.opening or wave.sending):
                while wave.waiting:
                    yield wave.waiting.popleft(), Refused(wave.refusal)
            while wave.waiting and wave.ready:
                claim = wave.waiting.popleft()
                try:
                    mail = self._compose(claim)
                except RenderError as error:
                    yield claim, Unwritten(str(error))
                    continue
                except (HyperdripError, psycopg.Error) as error:
                    # Not passed on: what is in flight still gets its answer.
                    reason = f"its campaign cannot be read: {str(error).splitlines()[0]}"
                    wave.refusal, wave.is_refused = reason, True
                    yield claim, Refused(reason)
                    break
                if not may_send(claim):
                    wave.waiting.clear()
                    break
                line = wave.ready.pop()
                wave.sending.append(line)
                line.tasks.put((wave.answers, claim, mail))
            if wave.sending or (wave.waiting and wave.opening):
                try:
                    answer = wave.answers.get(timeout=TICK_SECONDS)
                except Empty:
                    yield None
                else:
                    yield from self._take(wave, answer)

    def _find_lines(self, wave: "_Wave") -> None:
        """As many lines as there are messages waiting, up to the concurrency."""
        while len(wave.waiting) > len(wave.ready) + len(wave.opening) and not wave.refusal:
            if self._idle:
                line = self._idle.pop()
            elif len(wave.ready) + len(wave.opening) + len(wave.sending) < self.wave_size:
                line = _Line(self._server, self._context, self._timeouts)
                line.start()
            else:
                return
            if line.is_ready():
                wave.ready.append(line)
            else:
                wave.opening.append(line)
                line.tasks.put((wave.answers, None, None))

    def _take(self, wave: "_Wave", answer: _Answer) -> Iterator[tuple[Claim, Outcome]]:
        """Note what a line has to report."""
        line = answer.line
        if answer.claim is None or answer.verdict is None:
            wave.opening.remove(line)
            if answer.refusal is None:
                wave.ready.append(line)
            else:
                wave.refusal = answer.refusal
                self._idle.insert(0, line)
            return
        wave.sending.remove(line)
        outcome = self._watch.settle(answer.verdict)
        if isinstance(outcome, Refused):
            wave.refusal, wave.is_refused = outcome.reason, True
        if line.is_ready():
            wave.ready.append(line)
        else:
            self._idle.append(line)
        yield answer.claim, outcome


def open_smtp(kit: Kit) -> SmtpSender:
    """The factory of the sender `smtp`. Raises: SettingsError for what mail cannot do without."""
    server = kit.settings.smtp_url
    if server is None:
        raise SettingsError(
            "SMTP_URL is empty; name your mail server: smtp://user:password@host:587"
        )
    require_mail_settings(kit.settings)
    return SmtpSender(server, kit.compose, concurrency=kit.settings.concurrency)


class _Wave:
    """The state of one wave: what waits, and what its lines are doing.

    `refusal`: why a line could not be opened; no more are tried in this wave. `is_refused`: the
    server refuses us as a whole.
    """

    def __init__(self, claims: Sequence[Claim]) -> None:
        self.waiting = deque(claims)
        self.answers: Answers = SimpleQueue()
        self.ready: list[_Line] = []
        self.opening: list[_Line] = []
        self.sending: list[_Line] = []
        self.refusal = ""
        self.is_refused = False
