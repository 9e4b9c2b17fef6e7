"""Draining a day's queue with the null sender, every promise on, against a floor and peers.

The floor is a psycopg loop of `pgmq.read` and `pgmq.archive` with waves of the same size and as
many processes, on the same envelopes.
"""

import statistics
from collections.abc import Callable, Iterator

from benchmarks.backlog import Stage, backlog, queue_of_today
from benchmarks.draining import Drained, drain
from benchmarks.harness import Options, Paired, Row, Server, in_turn

MESSAGES = 20_000
LOOP_MESSAGES = 1_000


def run(server: Server, options: Options) -> Iterator[Row]:
    """Rows for the drain."""
    yield from _rates(server, options)


def _rates(server: Server, options: Options) -> Iterator[Row]:
    with backlog(server, MESSAGES) as template, Stage(server, template) as stage:

        def rate(kind: str, processes: int, messages: int | None = None) -> Callable[[], float]:
            def once() -> float:
                drained = drain(
                    kind, stage.url, queue_of_today(), processes=processes, messages=messages
                )
                _require(drained, messages or MESSAGES)
                return drained.rate

            return once

        rates = in_turn(
            {
                "ours 1": rate("ours", 1),
                "floor 1": rate("floor", 1),
                "ours 2": rate("ours", 2),
                "floor 2": rate("floor", 2),
                "ours 8": rate("ours", 8),
                "loop": rate("loop", 1, LOOP_MESSAGES),
            },
            rounds=options.pairs,
            settle=stage.settle,
        )
    yield _row("drain/floor, one process", rates, "ours 1", "floor 1", gate=0.45, goal=0.60)
    yield _row("drain/floor, two processes", rates, "ours 2", "floor 2", gate=0.50, goal=0.70)
    yield _row("drain/one by one", rates, "ours 1", "loop", gate=25, goal=40)
    best = max(("ours 1", "ours 2"), key=lambda name: statistics.median(rates[name]))
    yield _row(f"drain, 8 processes/{best[5:]}", rates, "ours 8", best, gate=0.7, goal=0.9)


def _row(
    name: str, rates: dict[str, list[float]], ours: str, other: str, *, gate: float, goal: float
) -> Row:
    paired = Paired(tuple(rates[ours]), tuple(rates[other]))
    note = f"{statistics.median(paired.a):,.0f}/s against {statistics.median(paired.b):,.0f}/s"
    return Row(name, paired.ratio, paired.low, paired.high, gate, goal, True, note=note)


def _require(drained: Drained, messages: int) -> None:
    if drained.count != messages:
        raise RuntimeError(f"{drained.count} of {messages} messages were finished")
