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

    def helped() -> float:
        return _best(lambda: commands.run([commands.HYPERDRIP, "--help"], nowhere))

    def bare() -> float:
        return _best(lambda: commands.run([sys.executable, "-c", BARE], nowhere))

    found = paired(helped, bare, pairs=options.pairs, settle=_nothing)
    yield _row("hyperdrip --help", f'python -c "{BARE}"', found)
    with server.database("startup") as url:
        with closing(server.connect(url)) as conn:
            today = filling.today_of(conn)
            filling.create_queues(conn, {today + timedelta(days=n) for n in range(6)})
        server.settle(url)
        numbers = itertools.count(1)

        def added() -> float:
            return _best(
                lambda: commands.hyperdrip(
                    url, "add-lead", "--name", "Ada Marlowe",
                    "--email", f"ada{next(numbers)}@example.com",
                )
            )  # fmt: skip

        def connected() -> float:
            return _best(lambda: commands.run([sys.executable, "-c", CONNECTING, url], nowhere))

        found = paired(added, connected, pairs=options.pairs, settle=_nothing)
    yield _row(
        "add-lead on a running server", "python with typer, rich, psycopg, connecting", found
    )


def _best(start: Callable[[], commands.Ended]) -> float:
    return min(start().seconds for _ in range(RUNS))


def _row(ours: str, theirs: str, found: Paired) -> Row:
    return Row(
        name=f"{ours}, against {theirs}",
        value=found.ratio, low=found.low, high=found.high, gate=1.5, goal=1.2,
        is_higher_better=False, unit="x",
        note=f"whole processes: {median(found.a):.3f} s against {median(found.b):.3f} s",
    )  # fmt: skip


def _nothing() -> None:
    """For `settle`: there is nothing to write."""
