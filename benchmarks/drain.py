"""Draining a day's queue with the null sender, every promise on, against a floor and peers.

The floor is a psycopg loop of `pgmq.read` and `pgmq.archive` with waves of the same size and as
many processes, on the same envelopes.
"""

import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

from benchmarks import counting
from benchmarks.backlog import Stage, backlog, queue_of_today
from benchmarks.draining import Drained, drain
from benchmarks.harness import Options, Paired, Row, Server, in_turn, interval, progress
from benchmarks.peers import PEERS, Peer, PeerBroken


@dataclass(frozen=True)
class Sizes:
    """How many messages each benchmark has, and for how long a transaction is held open."""

    rates: int = 30_000
    loop: int = 1_000
    long: int = 50_000
    held: int = 60_000
    held_seconds: float = 10.0
    held_pairs: int = 3
    claims: int = 100_000
    future_leads: int = 20_000


FULL = Sizes(
    rates=100_000,
    loop=5_000,
    long=500_000,
    held=1_500_000,
    held_seconds=60.0,
    held_pairs=5,
    claims=200_000,
    future_leads=200_000,
)


def run(server: Server, options: Options) -> Iterator[Row]:
    """Rows for the drain."""
    sizes = FULL if options.is_full else Sizes()
    with backlog(server, sizes.rates) as template, Stage(server, template) as stage:
        yield from _rates(stage, sizes, options.pairs)
        yield from _peers(stage, sizes, options.pairs)
        yield from counting.wal(stage, sizes.rates)
        yield from counting.statements(stage, sizes.rates)
        yield from counting.disk(stage, sizes.rates)
    yield from counting.buffers(server, due=sizes.claims, future_leads=sizes.future_leads)
    yield from _last_tenth(server, sizes, options.pairs)
    yield from _held_open(server, sizes, min(options.pairs, sizes.held_pairs))


def _rates(stage: Stage, sizes: Sizes, rounds: int) -> Iterator[Row]:
    """With one process, two and eight, against the floor with as many, and one by one."""

    def rate(kind: str, processes: int, messages: int = sizes.rates) -> Callable[[], float]:
        return lambda: _drain(stage, kind, messages, processes=processes).rate

    rates = in_turn(
        {
            "ours 1": rate("ours", 1),
            "floor 1": rate("floor", 1),
            "ours 2": rate("ours", 2),
            "floor 2": rate("floor", 2),
            "ours 8": rate("ours", 8),
            "loop": rate("loop", 1, sizes.loop),
        },
        rounds=rounds,
        settle=stage.settle,
    )
    yield _row("drain/floor, one process", rates, "ours 1", "floor 1", gate=0.45, goal=0.60)
    yield _row("drain/floor, two processes", rates, "ours 2", "floor 2", gate=0.50, goal=0.70)
    yield _row("drain/one by one", rates, "ours 1", "loop", gate=25, goal=40)
    best = max((f"ours {n}" for n in (1, 2)), key=lambda name: statistics.median(rates[name]))
    yield _row(
        f"drain, 8 processes/our best, {best[5:]}", rates, "ours 8", best, gate=0.7, goal=0.9
    )


def _peers(stage: Stage, sizes: Sizes, rounds: int) -> Iterator[Row]:
    """With one process against peers that do no-op jobs, with one process each."""
    server = stage.server
    with ExitStack() as stack:
        runs: dict[str, Callable[[], float]] = {}
        broken: list[str] = []
        for peer in PEERS:
            try:
                peer.install()
                full = stack.enter_context(server.empty_database("peer"))
                peer.enqueue(full)
                runs[peer.name] = _peer_run(server, peer, full)
                runs[peer.name]()
            except (PeerBroken, OSError) as error:
                broken.append(f"{peer.name} is MISSING: {error}")
                runs.pop(peer.name, None)
                progress(f"  {broken[-1]}")

        def ours() -> float:
            stage.settle()
            return _drain(stage, "ours", sizes.rates).rate

        rates = in_turn({"ours": ours, **runs}, rounds=rounds, settle=lambda: None)
    for name in runs:
        yield _row(f"drain/{name}", rates, "ours", name)
    if not runs:
        yield Row("drain/fastest peer", float("nan"), None, None, 1.0, 1.3, True)
        return
    fastest = max(runs, key=lambda name: statistics.median(rates[name]))
    row = _row("drain/fastest peer", rates, "ours", fastest, gate=1.0, goal=1.3)
    note = "; ".join([f"{fastest}: {row.note}", *broken])
    # Without one of them nobody knows which is the fastest.
    value = float("nan") if broken else row.value
    yield Row(row.name, value, row.low, row.high, row.gate, row.goal, True, note=note)


def _peer_run(server: Server, peer: Peer, full: str) -> Callable[[], float]:
    def once() -> float:
        with server.copy("stage", full) as url:
            server.settle(url)
            return peer.drain(url)

    return once


def _last_tenth(server: Server, sizes: Sizes, rounds: int) -> Iterator[Row]:
    """The rate in the last tenth of a long queue against that in its first tenth."""
    with backlog(server, sizes.long, max_messages=1) as template, Stage(server, template) as stage:

        def kept(kind: str) -> Callable[[], float]:
            def once() -> float:
                drained = _drain(stage, kind, sizes.long)
                return drained.rate_between(0.9, 1.0) / drained.rate_between(0.0, 0.1)

            return once

        shares = in_turn(
            {"ours": kept("ours"), "floor": kept("floor")}, rounds=rounds, settle=stage.settle
        )
    name = f"drain, last tenth of {sizes.long:,}/first, relative to the floor's"
    yield _share_row(name, shares["ours"], shares["floor"], goal=1.0, what="last tenth/first")


def _held_open(server: Server, sizes: Sizes, rounds: int) -> Iterator[Row]:
    """What is left of the rate while somebody holds a transaction open from before the start."""
    seconds = sizes.held_seconds
    with backlog(server, sizes.held, max_messages=1) as template, Stage(server, template) as stage:

        def rate(kind: str, *, is_held: bool) -> Callable[[], float]:
            def once() -> float:
                with _snapshot(server, stage.url) if is_held else ExitStack():
                    drained = drain(kind, stage.url, queue_of_today(), seconds=seconds)
                return drained.rate

            return once

        rates = in_turn(
            {
                "ours free": rate("ours", is_held=False),
                "ours held": rate("ours", is_held=True),
                "floor held": rate("floor", is_held=True),
                "floor free": rate("floor", is_held=False),
            },
            rounds=rounds,
            settle=stage.settle,
        )
    kept = {
        kind: [
            held / free
            for held, free in zip(rates[f"{kind} held"], rates[f"{kind} free"], strict=True)
        ]
        for kind in ("ours", "floor")
    }
    yield _share_row(
        f"drain, a transaction held open for up to {seconds:.0f} s, relative to the floor's loss",
        kept["ours"],
        kept["floor"],
        goal=1.2,
        what=f"of the rate is left, {sizes.held:,} messages",
    )


@contextmanager
def _snapshot(server: Server, url: str) -> Iterator[None]:
    """A transaction that has begun and does not end: nothing that dies after it is cleaned up."""
    with closing(server.connect(url)) as conn:
        conn.execute("begin isolation level repeatable read")
        conn.execute("select count(*) from hyperdrip.instance")
        yield


def _drain(stage: Stage, kind: str, messages: int, *, processes: int = 1) -> Drained:
    drained = drain(
        kind,
        stage.url,
        queue_of_today(),
        processes=processes,
        messages=messages if kind == "loop" else None,
    )
    if drained.count != messages:
        raise RuntimeError(f"{kind} finished {drained.count} of {messages} messages")
    return drained


def _row(
    name: str,
    rates: dict[str, list[float]],
    ours: str,
    other: str,
    *,
    gate: float | None = None,
    goal: float | None = None,
) -> Row:
    paired = Paired(tuple(rates[ours]), tuple(rates[other]))
    note = f"{statistics.median(paired.a):,.0f}/s against {statistics.median(paired.b):,.0f}/s"
    return Row(name, paired.ratio, paired.low, paired.high, gate, goal, True, note=note)


def _share_row(name: str, ours: list[float], floor: list[float], *, goal: float, what: str) -> Row:
    ratios = [one / other for one, other in zip(ours, floor, strict=True)]
    low, high = interval(ratios)
    shares = f"{statistics.median(ours):.2f} against {statistics.median(floor):.2f}"
    note = f"{shares} {what}"
    return Row(name, statistics.median(ratios), low, high, 1.0, goal, True, note=note)
