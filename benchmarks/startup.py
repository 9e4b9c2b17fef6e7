"""Starting up: whole processes, against bare Python with the same imports."""

import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from statistics import median

from benchmarks import commands, filling
from benchmarks.harness import Options, Paired, Row, Server, paired

RUNS = 3  # of each side for one figure: the best counts
BARE = "import typer, rich"
CONNECTING = "import sys, typer, rich, psycopg; psycopg.connect(sys.argv[1]).close()"


def run(server: Server, options: Options) -> Iterator[Row]:
    """Help, and a lead added on a server that runs."""
    nowhere = commands.environment()
    helped = _Side(lambda: commands.run([commands.HYPERDRIP, "--help"], nowhere))
    bare = _Side(lambda: commands.run([sys.executable, "-c", BARE], nowhere))
    found = paired(helped.seconds, bare.seconds, pairs=options.pairs, settle=_nothing)
    yield _row("hyperdrip --help", f'python -c "{BARE}"', found, helped, bare)
    with server.database("startup") as url:
        with closing(server.connect(url)) as conn:
            today = filling.today_of(conn)
            filling.create_queues(conn, {today + timedelta(days=n) for n in range(6)})
        server.settle(url)
        numbers = itertools.count(1)
        added = _Side(
            lambda: commands.hyperdrip(
                url, "add-lead", "--name", "Ada Marlowe",
                "--email", f"ada{next(numbers)}@example.com",
            )
        )  # fmt: skip
        connected = _Side(lambda: commands.run([sys.executable, "-c", CONNECTING, url], nowhere))
        found = paired(added.seconds, connected.seconds, pairs=options.pairs, settle=_nothing)
    theirs = "python with typer, rich, psycopg, connecting"
    yield _row("add-lead on a running server", theirs, found, added, connected)


class _Side:
    """One of the two: a process that is started again and again."""

    def __init__(self, start: Callable[[], commands.Ended]) -> None:
        self._start = start
        self.cpu_seconds: list[float] = []

    def seconds(self) -> float:
        """How long it takes, the best of RUNS."""
        ended = [self._start() for _ in range(RUNS)]
        self.cpu_seconds.append(min(one.cpu_seconds for one in ended))
        return min(one.seconds for one in ended)


def _row(ours: str, theirs: str, found: Paired, our: _Side, their: _Side) -> Row:
    cpu = median(our.cpu_seconds), median(their.cpu_seconds)
    return Row(
        name=f"{ours}, against {theirs}",
        value=found.ratio, low=found.low, high=found.high, gate=1.5, goal=1.2,
        is_higher_better=False, unit="x",
        note=f"whole processes: {median(found.a):.3f} s against {median(found.b):.3f} s; of the"
        f" processor {cpu[0]:.3f} s against {cpu[1]:.3f} s, {cpu[0] / cpu[1]:.2f} times",
    )  # fmt: skip


def _nothing() -> None:
    """For `settle`: there is nothing to write."""
