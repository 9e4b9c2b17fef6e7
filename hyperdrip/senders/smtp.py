"""The SMTP sender: a wave over connections that are kept open, all of them in one thread."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import psycopg

from hyperdrip.errors import HyperdripError, RenderError, SettingsError
from hyperdrip.models import Claim, Mail
from hyperdrip.senders import Outcome, Refused, Unwritten
from hyperdrip.senders.kit import Kit, require_mail_settings
from hyperdrip.senders.smtp_lines import Lines, Report, Task
from hyperdrip.senders.smtp_replies import PolicyWatch
from hyperdrip.senders.smtp_session import make_context
from hyperdrip.senders.smtp_wire import Timeouts
from hyperdrip.smtp_url import SmtpServer

TICK_SECONDS = 1.0
# A larger wave asks the database less often, and all that is claimed of it is unknown when its
# worker is killed.
WAVE_SECONDS = 0.5
LONGEST_WAVE = 1000


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
        self.wave_size = self._concurrency = concurrency
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
        self._lines: Lines | None = None

    def close(self) -> None:
        """Say goodbye on all connections, without waiting long."""
        lines, self._lines = self._lines, None
        if lines is not None:
            lines.close()

    def send_wave(
        self, claims: Sequence[Claim], may_send: Callable[[Claim], bool]
    ) -> Iterator[tuple[Claim, Outcome] | None]:
        """See Sender. A line is ready before `may_send` is asked for the message it will carry.

        As long as one connection stands, messages wait for it; when none does, or the server
        refuses us as a whole, all that are left are Refused without being asked for.
        """
        if self._lines is None:
            self._lines = Lines(self._server, self._context, self._timeouts, most=self._concurrency)
        wave = _Wave(claims)
        try:
            yield from self._send(wave, self._lines, may_send)
        finally:
            if self._lines is not None:
                self._lines.rest()
        if wave.first_at:
            self.wave_size = self._size_of_next(wave.answered, time.monotonic() - wave.first_at)

    def _size_of_next(self, answered: int, seconds: float) -> int:
        """As many as leave in WAVE_SECONDS at this pace: each connection has as many as others."""
        each = answered / self._concurrency * WAVE_SECONDS / max(seconds, 0.001)
        return self._concurrency * max(1, min(LONGEST_WAVE // self._concurrency, int(each)))

    def _send(
        self, wave: "_Wave", lines: Lines, may_send: Callable[[Claim], bool]
    ) -> Iterator[tuple[Claim, Outcome] | None]:
        while wave.waiting or wave.in_flight:
            lines.find(len(wave.waiting), may_open=not wave.refusal)
            if wave.is_refused or not (lines.ready or lines.opening or lines.sending):
                while wave.waiting:
                    yield wave.waiting.popleft(), Refused(wave.refusal)
            while wave.waiting and lines.ready and not wave.is_refused:
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
                wave.in_flight += 1
                wave.first_at = wave.first_at or time.monotonic()
                if report := lines.begin(Task(claim, mail, wave, time.monotonic())):
                    yield from self._take(wave, report)
            if wave.in_flight or (wave.waiting and (lines.opening or lines.sending)):
                yield from self._listen(wave, lines)

    def _listen(self, wave: "_Wave", lines: Lines) -> Iterator[tuple[Claim, Outcome] | None]:
        """Go on with what has something to say; a sign of life when that has been a while."""
        reports = lines.wait(wave.silent_since + TICK_SECONDS - time.monotonic())
        for report in reports:
            yield from self._take(wave, report)
        if time.monotonic() - wave.silent_since >= TICK_SECONDS:
            wave.silent_since = time.monotonic()
            yield None

    def _take(self, wave: "_Wave", report: Report) -> Iterator[tuple[Claim, Outcome]]:
        """Note what a line has to report, unless it is of a wave that nobody iterates any more."""
        if report.task is None or report.verdict is None:
            wave.refusal = report.refusal
        elif report.task.wave is wave:
            outcome = self._watch.settle(report.verdict)
            if isinstance(outcome, Refused):
                wave.refusal, wave.is_refused = outcome.reason, True
            wave.in_flight -= 1
            wave.answered += 1
            wave.silent_since = time.monotonic()
            yield report.task.claim, outcome


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
    """The state of one wave: what waits, how much is in flight, how much was answered since when.

    `refusal`: why a line could not be opened; no more are tried in this wave. `is_refused`: the
    server refuses us as a whole. `silent_since`: when something was last said of it (monotonic).
    """

    def __init__(self, claims: Sequence[Claim]) -> None:
        self.waiting = deque(claims)
        self.in_flight = self.answered = 0
        self.first_at = 0.0
        self.refusal = ""
        self.is_refused = False
        self.silent_since = time.monotonic()
