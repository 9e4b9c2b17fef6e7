"""Processes that empty a queue: our own worker, the floor, and the one-by-one loop.

All of them are timed alike: from the first read to the last committed finish of any process; no
start of an interpreter, no connecting, no last look at an empty queue.
"""

import gc
import multiprocessing
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from typing import Any

import psycopg

WAVE = 500
VT_SECONDS = 30
END_SECONDS = 600.0

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["benchmarks.draining", "hyperdrip.client", "hyperdrip.worker"])


@dataclass(frozen=True)
class Job:
    """What one process does: `kind` is ours, floor or loop. It ends early after `messages`."""

    kind: str
    url: str
    queue: str
    messages: int | None = None
    seconds: float | None = None


@dataclass
class Drained:
    """When the first read began, and when how many messages were committed (monotonic)."""

    started: float = 0.0
    ticks: list[tuple[float, int]] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Messages in all."""
        return sum(count for _, count in self.ticks)

    @property
    def seconds(self) -> float:
        """From the first read to the last commit."""
        return self.ticks[-1][0] - self.started

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.count / self.seconds

    def rate_between(self, first: float, last: float) -> float:
        """Messages a second in a part of the queue, such as from 0.9 to 1.0 of it."""
        at, done, total = [self.started], [0], self.count
        for moment, count in self.ticks:
            at.append(moment)
            done.append(done[-1] + count)
        end = next(i for i, n in enumerate(done) if n >= last * total)
        start = min(end - 1, next(i for i, n in enumerate(done) if n >= first * total))
        return (done[end] - done[start]) / (at[end] - at[start])


@dataclass
class Watch:
    """Notes what a process does, and says when it is to end."""

    job: Job
    drained: Drained = field(default_factory=Drained)
    done: int = 0

    def begin(self) -> None:
        """A read is about to begin."""
        if not self.drained.started:
            self.drained.started = time.monotonic()

    def committed(self, count: int) -> None:
        """So many messages were finished for good."""
        if count:
            self.done += count
            self.drained.ticks.append((time.monotonic(), count))

    @property
    def is_over(self) -> bool:
        """Is it time to end early?"""
        job, started = self.job, self.drained.started
        return (job.messages is not None and self.done >= job.messages) or (
            job.seconds is not None and time.monotonic() - started >= job.seconds
        )


def drain(
    kind: str,
    url: str,
    queue: str,
    *,
    processes: int = 1,
    messages: int | None = None,
    seconds: float | None = None,
) -> Drained:
    """Empty a queue with so many processes; what all of them did, in order of time."""
    gate = _processes.Barrier(processes)
    job = Job(kind, url, queue, messages, seconds)
    started = [_start(job, gate) for _ in range(processes)]
    parts: list[Drained] = []
    for process, receiver in started:
        if not receiver.poll(END_SECONDS):
            process.kill()
            raise RuntimeError(f"{kind} did not end within {END_SECONDS:.0f} s")
        try:
            parts.append(receiver.recv())
        except EOFError:
            raise RuntimeError(f"{kind} broke; what it said is above") from None
        process.join()
    busy = [part for part in parts if part.ticks]
    return Drained(
        min(part.started for part in busy), sorted(tick for part in busy for tick in part.ticks)
    )


def _start(job: Job, gate: Barrier) -> tuple[Any, Connection]:
    receiver, sender = _processes.Pipe(duplex=False)
    process = _processes.Process(target=_work, args=(job, gate, sender), daemon=True)
    process.start()
    sender.close()
    return process, receiver


def _work(job: Job, gate: Barrier, sender: Connection) -> None:
    watch = Watch(job)
    try:
        KINDS[job.kind](watch, gate.wait)
        sender.send(watch.drained)
    except BaseException:
        gate.abort()
        raise
    finally:
        sender.close()


def run_ours(watch: Watch, ready: Callable[[], object]) -> None:
    """What `hyperdrip worker --sender null --message-delay 0 --drain` runs, and notes of it."""
    from benchmarks.backlog import settings_of
    from hyperdrip import Hyperdrip, delivery
    from hyperdrip.cli import COLLECT_AFTER
    from hyperdrip.signals import Stop

    gc.set_threshold(COLLECT_AFTER)
    finish_and_claim, stop = delivery.finish_and_claim, Stop()

    def noted_finish(*args: Any, **options: Any) -> Any:
        watch.begin()
        settled, claimed = finish_and_claim(*args, **options)
        watch.committed(len(settled.finished))
        if watch.is_over:
            stop.set()
        return settled, claimed

    delivery.finish_and_claim = noted_finish
    with closing(Hyperdrip(watch.job.url, settings_of(watch.job.url))) as drip:
        drip.run_worker(is_drain=True, stop=stop, on_start=lambda _worker: ready())


def run_floor(watch: Watch, ready: Callable[[], object]) -> None:
    """The least that PGMQ can be asked: read a batch, archive it."""
    name = watch.job.queue
    with psycopg.connect(watch.job.url, autocommit=True) as conn:
        ready()
        watch.begin()
        while not watch.is_over:
            rows = conn.execute(
                "select msg_id from pgmq.read(%s::text, %s::integer, %s::integer)",
                [name, VT_SECONDS, WAVE],
            ).fetchall()
            if not rows:
                return
            ids = [msg_id for (msg_id,) in rows]
            conn.execute("select pgmq.archive(%s::text, %s::bigint[])", [name, ids])
            watch.committed(len(ids))


def run_loop(watch: Watch, ready: Callable[[], object]) -> None:
    """One by one: read one, look its lead up, update its ledger row, archive it."""
    name = watch.job.queue
    with psycopg.connect(watch.job.url, autocommit=True) as conn:
        ready()
        watch.begin()
        while not watch.is_over:
            row = conn.execute(
                "select msg_id, message, headers from pgmq.read(%s::text, %s::integer, 1)",
                [name, VT_SECONDS],
            ).fetchone()
            if row is None:
                return
            msg_id, message, headers = row
            lead_id = int(message["leadId"].removeprefix("lead_"))
            conn.execute(
                "select name, email, fields from hyperdrip.lead where id = %s", [lead_id]
            ).fetchone()
            conn.execute(
                "update hyperdrip.message set state = 'sent', sent_at = now(), token = token + 1"
                " where lead_id = %s and run = %s and number = %s",
                [lead_id, int(headers["run"]), message["messageNumber"]],
            )
            conn.execute("select pgmq.archive(%s::text, %s::bigint)", [name, msg_id])
            watch.committed(1)


KINDS = {"ours": run_ours, "floor": run_floor, "loop": run_loop}
