"""The connections of a sender: one thread talks over all of them at once.

What has to wait for one connection alone is done by a thread of its own: making it ready, and
saying goodbye. Threads for each message would take turns with whoever writes the next one, and
spend more time on that than on sending.
"""

import logging
import math
import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from ssl import SSLContext
from typing import NamedTuple

from hyperdrip.models import Claim, Mail
from hyperdrip.senders import Refused, Unknown
from hyperdrip.senders.smtp_replies import Verdict
from hyperdrip.senders.smtp_session import ServerRefuses, Session
from hyperdrip.senders.smtp_wire import Steps, Timeouts, Wait
from hyperdrip.smtp_url import SmtpServer

log = logging.getLogger("hyperdrip.smtp")

SHORTEST_LOOK_SECONDS = 0.01


class Task(NamedTuple):
    """A message to hand over, for whom its answer is, and since when (monotonic) it is there."""

    claim: Claim
    mail: Mail
    wave: object
    started_at: float


class Report(NamedTuple):
    """What came of a task; or, without one, why a connection cannot be had."""

    task: Task | None
    verdict: Verdict | None = None
    refusal: str = ""


@dataclass(eq=False)
class _Line:
    """A place for one connection. `lost`: what came of the first try of its task.

    `events`: what its session is being watched for; 0: it is not. `leaving`: the thread in which
    its last session comes to its end.
    """

    session: Session | None = None
    task: Task | None = None
    steps: Steps[Verdict] | None = None
    wait: Wait | None = None
    lost: Verdict | None = None
    events: int = 0
    leaving: threading.Thread | None = None

    def is_ready(self) -> bool:
        """May a message be handed over without asking the server first?"""
        session = self.session
        return session is not None and session.is_fresh() and not session.is_spent()


class Lines:
    """Up to `most` connections to one server. For one thread, which hands over and waits.

    `ready`: those that may be given a message; `opening`: those that are being made so; `sending`:
    those that are at one. Between two waves there are none: `rest` sees to that.
    """

    def __init__(
        self, server: SmtpServer, context: SSLContext, timeouts: Timeouts, *, most: int
    ) -> None:
        self.ready: list[_Line] = []
        self.opening: set[_Line] = set()
        self.sending: set[_Line] = set()
        # When (monotonic) the first of those that send may have waited for too long: not later.
        self._soonest = math.inf
        self._server, self._context, self._timeouts = server, context, timeouts
        # The last one used is taken first, so the others may go.
        self._idle: list[_Line] = [_Line() for _ in range(most)]
        # Of `_idle` and the sessions in it, and of who gets a line that a thread has opened: the
        # wave by way of `_opened`, or with the `_late`, whose wave is over, `_idle`.
        self._guard = threading.Lock()
        self._late: set[_Line] = set()
        self._opened: SimpleQueue[tuple[_Line, str | None]] = SimpleQueue()
        self._closed = threading.Event()
        self._selector = selectors.DefaultSelector()
        self._bell, self._ring = socket.socketpair()
        for end in (self._bell, self._ring):
            end.setblocking(False)
        self._selector.register(self._bell, selectors.EVENT_READ)
        _start(self._give_up_old)

    def find(self, wanted: int, *, may_open: bool = True) -> None:
        """Have `wanted` lines ready, or being made so, if there may be so many."""
        with self._guard:
            for line in [line for line in reversed(self._idle) if line.is_ready()]:
                if wanted > len(self.ready):
                    self._idle.remove(line)
                    self.ready.append(line)
            missing = wanted - len(self.ready) - len(self.opening) if may_open else 0
            lines = [self._idle.pop() for _ in range(min(missing, len(self._idle)))]
        for line in lines:
            self.opening.add(line)
            _start(self._make_ready, line)

    def begin(self, task: Task) -> Report | None:
        """Hand over on a line that is ready; the answer, if there is one already."""
        line = self.ready.pop()
        line.task = task
        self.sending.add(line)
        return self._deliver(line)

    def wait(self, seconds: float) -> list[Report]:
        """Go on with what has something to say, for which it waits so long at most."""
        for line in self.ready:
            self._unwatch(line)
        found = self._selector.select(max(0.0, min(seconds, self._soonest - time.monotonic())))
        spoke = [key.data for key, _ in found if key.data is not None]
        if len(spoke) < len(found):
            self._bell.recv(4096)
        reports = [self._go_on(line, is_in_time=True) for line in spoke]
        now = time.monotonic()
        if self._soonest <= now:
            late = [
                line
                for line in self.sending
                if line.wait is not None and line.wait.ends <= now and line not in spoke
            ]
            reports += [self._go_on(line, is_in_time=False) for line in late]
            waits = (line.wait.ends for line in self.sending if line.wait)
            self._soonest = min(waits, default=math.inf)
        reports += [self._note_opened(*opened) for opened in self._take_opened()]
        return [report for report in reports if report is not None]

    def rest(self) -> None:
        """The wave is over: nothing more is to be handed over, and nobody asks for answers."""
        with self._guard:
            for line, _ in self._take_opened():
                self.opening.discard(line)
                self.sending.discard(line)
                line.task = line.lost = None
                self._idle.insert(0, line)
            lost = {line for line in self.sending if line.lost is not None}
            self._late |= self.opening | lost
        for line in lost:
            line.task = line.lost = None
        for line in self.sending - lost:
            self._leave(line)
        self.opening, self.sending = set(), set()
        for line in self.ready:
            self._unwatch(line)
        with self._guard:
            self._idle += self.ready
        self.ready = []

    def close(self) -> None:
        """Say goodbye on all connections, without waiting long."""
        self.rest()
        self._closed.set()
        with self._guard:
            lines, self._idle = self._idle, []
        threads = [line.leaving for line in lines if line.leaving is not None]
        threads += [_start(line.session.quit) for line in lines if line.session is not None]
        ends = time.monotonic() + 2 * self._timeouts.quit
        for thread in threads:
            thread.join(max(0.0, ends - time.monotonic()))
        self._selector.close()
        self._bell.close()
        self._ring.close()

    # A message

    def _deliver(self, line: _Line) -> Report | None:
        assert line.session is not None
        assert line.task is not None
        line.steps = line.session.deliver(line.task.mail)
        return self._go_on(line)

    def _go_on(self, line: _Line, *, is_in_time: bool | None = None) -> Report | None:
        """Take the next steps; `is_in_time` is for all but the first."""
        assert line.steps is not None
        assert line.session is not None
        try:
            wait = next(line.steps) if is_in_time is None else line.steps.send(is_in_time)
        except StopIteration as end:
            verdict: Verdict = end.value
        except Exception as error:  # a line that dies in silence would be waited for for ever
            log.exception("A connection to %s broke", self._server)
            verdict = Verdict(Unknown(f"the sender broke: {type(error).__name__}"))
        else:
            line.wait = wait
            self._soonest = min(self._soonest, wait.ends)
            if line.events != wait.events:
                self._unwatch(line)
                self._selector.register(line.session, wait.events, line)
                line.events = wait.events
            return None
        line.steps = line.wait = None
        return self._judge(line, verdict)

    def _judge(self, line: _Line, verdict: Verdict) -> Report | None:
        """What was lost before its final dot goes once more, on another connection."""
        if verdict.is_lost or isinstance(verdict.outcome, Unknown):
            self._drop(line)
        if verdict.is_lost and line.lost is None and not self._is_late(line):
            line.lost = verdict
            _start(self._make_ready, line)
            return None
        return self._settle(line, verdict)

    def _settle(self, line: _Line, verdict: Verdict) -> Report:
        task, line.task, line.lost = line.task, None, None
        self.sending.remove(line)
        if line.is_ready():
            self.ready.append(line)
        else:
            self._unwatch(line)
            with self._guard:
                self._idle.append(line)
        return Report(task, verdict)

    def _is_late(self, line: _Line) -> bool:
        assert line.task is not None
        return time.monotonic() - line.task.started_at > self._timeouts.second_try

    def _unwatch(self, line: _Line) -> None:
        if line.events and line.session is not None:
            self._selector.unregister(line.session)
            line.events = 0

    def _drop(self, line: _Line) -> None:
        self._unwatch(line)
        if line.session is not None:
            line.session.close()
            line.session = None

    # Making ready

    def _make_ready(self, line: _Line) -> None:
        """Have a session that lives, and report it. In a thread of its own."""
        try:
            refusal = self._open(line)
        except Exception as error:  # as above
            log.exception("A connection to %s broke", self._server)
            refusal = f"{self._server}: {type(error).__name__}"
        with self._guard:
            is_late, is_closed = line in self._late, self._closed.is_set()
            self._late.discard(line)
            if not is_late:
                self._opened.put((line, refusal))
            elif not is_closed:
                self._idle.insert(0, line)
        if is_late and is_closed and line.session is not None:
            line.session.quit()
        with suppress(OSError):  # closed, or full of rings that were not heard yet
            self._ring.send(b"\0")

    def _open(self, line: _Line) -> str | None:
        """Have a session that lives; None, or why there is none."""
        if line.leaving is not None:  # there may be no more than so many at once
            line.leaving.join()
            line.leaving = None
        session = line.session
        if session is not None and session.is_spent():
            line.session = None
            session.quit()
        elif session is not None and not session.is_fresh() and not session.is_alive():
            line.session = None
            session.close()
        if line.session is None:
            try:
                line.session = Session(self._server, self._context, self._timeouts)
            except ServerRefuses as error:
                return str(error)
        return None

    def _note_opened(self, line: _Line, refusal: str | None) -> Report | None:
        if line.task is not None and line.lost is not None:
            if refusal is not None:
                return self._settle(line, Verdict(Refused(refusal)))
            return self._settle(line, line.lost) if self._is_late(line) else self._deliver(line)
        self.opening.remove(line)
        if refusal is None:
            self.ready.append(line)
            return None
        with self._guard:
            self._idle.insert(0, line)
        return Report(None, refusal=refusal)

    def _take_opened(self) -> list[tuple[_Line, str | None]]:
        opened: list[tuple[_Line, str | None]] = []
        with suppress(Empty):
            while True:
                opened.append(self._opened.get_nowait())
        return opened

    # Goodbye

    def _give_up_old(self) -> None:
        """Close what was idle for too long, also while nothing is sent. In a thread of its own."""
        while not self._closed.wait(self._seconds_to_look()):
            old: list[Session] = []
            with self._guard:
                for line in self._idle:
                    if line.session is not None and line.session.is_spent():
                        old.append(line.session)
                        line.session = None
            for session in old:
                session.quit()

    def _seconds_to_look(self) -> float:
        longest, now = self._timeouts.idle, time.monotonic()
        with self._guard:
            used = [line.session.used_at for line in self._idle if line.session is not None]
        return max(SHORTEST_LOOK_SECONDS, min(used, default=now) + longest - now)

    def _leave(self, line: _Line) -> None:
        """Let go of a message of a wave that broke off.

        One that was begun goes through at once or not at all, and none is begun: its worker has
        written it down as unknown, and somebody may have it sent again.
        """
        session, steps, wait = line.session, line.steps, line.wait
        line.task = line.steps = line.wait = None
        if session is not None and steps is not None and session.is_at_dot():
            self._unwatch(line)
            line.session = None
            line.leaving = _start(_finish, session, steps, wait)
        else:
            self._drop(line)
        with self._guard:
            self._idle.insert(0, line)


def _finish(session: Session, steps: Steps[Verdict], wait: Wait | None) -> None:
    """Wait for the answer that is due, and say goodbye. In a thread of its own."""
    session.finish(steps, wait)
    session.quit()


def _start(work: Callable[..., object], *arguments: object) -> threading.Thread:
    """Begin something that waits. A thread that hangs must not keep the process."""
    thread = threading.Thread(target=work, args=arguments, name="hyperdrip-smtp", daemon=True)
    thread.start()
    return thread
