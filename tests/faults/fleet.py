"""Worker processes that can be killed: they run what `hyperdrip worker` runs, with a SinkSender.

They are forked from a server process that has everything imported, so that starting one costs
milliseconds and not half a second.
"""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path

from psycopg.conninfo import make_conninfo

from hyperdrip import Hyperdrip
from hyperdrip.clock import Clock
from hyperdrip.errors import HyperdripError
from hyperdrip.signals import Stop, stop_on_signals
from tests.factories import MORNING, instant, make_settings
from tests.faults.sink import SinkSender
from tests.roles import under

END_SECONDS = 60.0

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["tests.faults.fleet"])


@dataclass(frozen=True)
class Pace:
    """A clock that all processes of this machine share: from `start` on, `speed` times as fast."""

    start: str = MORNING
    speed: float = 1.0
    epoch: float = field(default_factory=time.time)

    def now(self) -> datetime:
        passed = (time.time() - self.epoch) * self.speed
        return (instant(self.start) + timedelta(seconds=passed)).astimezone(UTC)


class PacedClock(Clock):
    """A Clock that goes by a Pace. It asks the server all the same, as the real one does."""

    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self._pace = pace

    def take(self, server: datetime) -> datetime:
        super().take(server)
        return self._pace.now()

    def estimate(self) -> datetime:
        return self._pace.now()


@dataclass(frozen=True)
class Job:
    """What a worker process does."""

    dsn: str
    sink: Path
    pace: Pace = field(default_factory=Pace)
    wave_size: int = 2
    is_drain: bool = True
    settings: dict[str, object] = field(default_factory=dict)


def work(job: Job) -> None:
    """The whole life of a worker process."""
    stop = Stop()
    dsn = make_conninfo(job.dsn, application_name=f"worker-{os.getpid()}")
    try:
        with stop_on_signals(stop):
            drip = Hyperdrip(dsn, make_settings(dsn, **job.settings))
            drip.clock = PacedClock(job.pace)
            sender = SinkSender(job.sink, wave_size=job.wave_size)
            drip.run_worker(is_drain=job.is_drain, sender=sender, stop=stop)
            drip.close()
    except HyperdripError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


class Worker:
    """A worker process, from outside."""

    def __init__(self, job: Job) -> None:
        self.job = replace(job, dsn=under(job.dsn, "worker"))
        self.process: BaseProcess = _processes.Process(target=work, args=(self.job,), daemon=True)
        self.process.start()
        assert self.process.pid is not None
        self.pid: int = self.process.pid

    @property
    def is_alive(self) -> bool:
        return self.process.is_alive()

    def signal(self, number: signal.Signals) -> None:
        if self.is_alive:
            os.kill(self.pid, number)

    def wait(self, seconds: float = END_SECONDS) -> int:
        """Wait for its end; its exit code, negative after a signal."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, f"worker {self.pid} does not end"
        return self.process.exitcode


@contextmanager
def fleet(*jobs: Job) -> Iterator[list[Worker]]:
    """Worker processes that end with the block at the latest."""
    workers = [Worker(job) for job in jobs]
    try:
        yield workers
    finally:
        for worker in workers:
            worker.signal(signal.SIGKILL)
            worker.process.join(END_SECONDS)
