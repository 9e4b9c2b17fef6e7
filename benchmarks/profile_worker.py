"""Where the time of a drain goes: `python -m benchmarks.profile_worker [--messages N]`.

The first drain is timed: each statement, what the worker's own processor time is, and how long it
waits for the server. The second runs under cProfile, which makes Python look slower than it is.
"""

import argparse
import cProfile
import io
import pstats
import re
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from benchmarks.backlog import Stage, backlog, queue_of_today
from benchmarks.draining import WAVE, Job, Watch, run_ours
from benchmarks.harness import Server
from hyperdrip.client import running
from hyperdrip.db import sql_folder

TOP = 25


def main() -> None:
    """Print both profiles."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile_worker")
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--one-lane", action="store_true", help="no lane waits for another")
    options = parser.parse_args()
    messages = options.messages
    if options.one_lane:
        running.TWO_LANES = frozenset()
    with (
        Server() as server,
        backlog(server, messages) as template,
        Stage(server, template) as stage,
    ):
        stage.settle()
        _print_times(stage)
        stage.settle()
        _print_profile(stage)


def _print_times(stage: Stage) -> None:
    spent: dict[str, list[float]] = defaultdict(list)
    marks: list[float] = []
    with _timed_statements(spent, marks), _timed_waits() as waits:
        drained = _drain(stage).drained
    cpu = marks[-1] - marks[0]
    waves = drained.count / WAVE
    wall = drained.seconds
    print(
        f"{drained.count} messages in {wall:.2f} s: {drained.rate:,.0f}/s,"
        f" {wall / waves * 1000:.1f} ms a wave of {WAVE}"
    )
    print(
        f"waiting for the server: {sum(waits) / wall:.0%} of it"
        f" ({sum(waits) / waves * 1000:.1f} ms a wave);"
        f" own processor time, the driver's with it: {cpu / waves * 1000:.1f} ms a wave"
    )
    print()
    print(f"{'statement':46} {'runs':>5} {'ms a wave':>9} {'median':>7} {'first':>7} {'last':>7}")
    for name, times in sorted(spent.items(), key=lambda item: -sum(item[1])):
        ms = [seconds * 1000 for seconds in times]
        print(
            f"{name:46.46} {len(ms):5} {sum(ms) / waves:9.2f} {statistics.median(ms):7.2f}"
            f" {ms[0]:7.2f} {ms[-1]:7.2f}"
        )
    print()


def _print_profile(stage: Stage) -> None:
    profile = cProfile.Profile()
    profile.enable()
    _drain(stage)
    profile.disable()
    out = io.StringIO()
    stats = pstats.Stats(profile, stream=out).strip_dirs()
    stats.sort_stats("tottime").print_stats(TOP)
    print(out.getvalue().strip())


def _drain(stage: Stage) -> Watch:
    watch = Watch(Job("ours", stage.url, queue_of_today()))
    run_ours(watch, lambda: None)
    return watch


@contextmanager
def _timed_statements(spent: dict[str, list[float]], marks: list[float]) -> Iterator[None]:
    """Note the seconds of each statement, from its sending to its whole result.

    `marks`: our own processor time from the first read to the last commit.
    """
    name_of = {file.read_bytes(): file.stem for file in (sql_folder() / "queries").glob("*.sql")}

    def name(statement: Any) -> str:
        if isinstance(statement, bytes) and statement in name_of:
            return name_of[statement]
        text = statement if isinstance(statement, str) else str(statement)
        found = re.search(r"pgmq\.\w+", text)
        return found[0] if found else " ".join(text.split())

    execute = psycopg.Cursor.execute

    def timed(self: Any, statement: Any, *args: Any, **options: Any) -> Any:
        known = name(statement)
        if known == "pgmq.read" and not marks:
            marks.append(time.process_time())
        start = time.perf_counter()
        try:
            return execute(self, statement, *args, **options)
        finally:
            spent[known].append(time.perf_counter() - start)

    with _replaced(psycopg.Cursor, "execute", timed), _timed_commits(spent, marks):
        yield


@contextmanager
def _timed_commits(spent: dict[str, list[float]], marks: list[float]) -> Iterator[None]:
    command = psycopg.Connection._exec_command

    def timed(self: Any, statement: Any, *args: Any) -> Any:
        start = time.perf_counter()
        result = yield from command(self, statement, *args)
        text = statement.decode() if isinstance(statement, bytes) else str(statement)
        word = text.split()[0].lower()
        spent[word].append(time.perf_counter() - start)
        if word == "commit" and marks:
            marks[1:] = [time.process_time()]
        return result

    with _replaced(psycopg.Connection, "_exec_command", timed):
        yield


@contextmanager
def _timed_waits() -> Iterator[list[float]]:
    """Note how long the driver waits for the server; what it parses meanwhile is a part of it."""
    waits: list[float] = []
    wait = psycopg.Connection.wait

    def timed(self: Any, *args: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return wait(self, *args, **options)
        finally:
            waits.append(time.perf_counter() - start)

    with _replaced(psycopg.Connection, "wait", timed):
        yield waits


@contextmanager
def _replaced(owner: type, name: str, other: Callable[..., Any]) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, other)
    try:
        yield
    finally:
        setattr(owner, name, before)


if __name__ == "__main__":
    main()
