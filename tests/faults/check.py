"""The reconciliation that ends every fault test: ledger, queues and archives against the sink.

One function for the real code and for the broken variants alike. It says in words what is wrong.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import psycopg

from hyperdrip import queue
from hyperdrip.audit import run_audit
from tests.faults.sink import Arrival

MOST_EXAMPLES = 3


@dataclass(frozen=True)
class Allowed:
    """What the faults of a run excuse.

    `repeats`: hand-overs more than one of a message, in all (0 with `hold`). `unknown`: messages of
    unknown fate, by the pid of the worker that had them.
    `caps`: the most that may leave on a day, `most_a_day` on those that it does not name.
    `silent`: messages that were stopped before they were claimed.
    """

    repeats: int = 0
    unknown: Mapping[int, int] = field(default_factory=dict)
    caps: Mapping[date, int] = field(default_factory=dict)
    most_a_day: int | None = None
    silent: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Row:
    """A ledger row, with the pid of the worker that had it last and what was said of it."""

    key: str
    state: str
    day: date | None
    pid: int | None
    error: str | None


def find_violations(
    conn: psycopg.Connection[Any],
    arrivals: Sequence[Arrival],
    allowed: Allowed = Allowed(),
    *,
    is_ordered: bool = True,
) -> list[str]:
    """Everything that contradicts the promises, once the faults are over and all is drained."""
    rows = read_ledger(conn)
    seen = Counter(arrival.key for arrival in arrivals)
    return [
        *find_broken_tables(conn),
        *_find_lost(rows, seen),
        *_find_repeated(rows, seen, allowed),
        *_find_over_quota(arrivals, allowed),
        *_find_dishonest(rows, allowed),
        *_words("sent after it was stopped", allowed.silent & seen.keys()),
        *(_find_disorder(arrivals) if is_ordered else []),
        *_find_left_behind(conn),
    ]


def read_ledger(conn: psycopg.Connection[Any]) -> list[Row]:
    """The whole ledger, by message."""
    rows = conn.execute(
        "select format('lead_%s-%s-%s', message.lead_id, message.run, message.number),"
        " message.state, message.day, worker.pid, message.error"
        " from hyperdrip.message left join hyperdrip.worker on message.worker = worker.id"
        " order by message.lead_id, message.run, message.number"
    )
    return [Row(*row) for row in rows.fetchall()]


def find_broken_tables(conn: psycopg.Connection[Any]) -> list[str]:
    """What `audit` finds: has to be nothing at any time, also in the middle of a fault."""
    return [f"audit: {check.name}: {check.detail}" for check in run_audit(conn) if not check.ok]


def _find_lost(rows: Sequence[Row], seen: Counter[str]) -> list[str]:
    open_rows = [row.key for row in rows if row.state in ("planned", "sending")]
    unseen = [row.key for row in rows if row.state == "sent" and not seen[row.key]]
    return [
        *_words("lost: never settled", open_rows),
        *_words("lost: sent says the ledger, and the sink never saw", unseen),
    ]


def _find_repeated(rows: Sequence[Row], seen: Counter[str], allowed: Allowed) -> list[str]:
    again = [key for key, count in seen.items() if count > 1]
    repeats = sum(count - 1 for count in seen.values())
    unheld = [row.key for row in rows if seen[row.key] and not _is_known(row, allowed)]
    return [
        *(_words(f"repeated {repeats} times", again) if repeats > allowed.repeats else []),
        *_words("would be repeated: the sink has, and the ledger does not know of", unheld),
    ]


def _is_known(row: Row, allowed: Allowed) -> bool:
    """Does the ledger know that this message may have left?

    With `resend` one of unknown fate waits to go again; when its lead is stopped before that, it is
    cancelled, and its error still says why it was to go again.
    """
    if allowed.repeats and row.state == "cancelled":
        return row.error is not None
    return row.state in ("sent", "unknown")


def _find_over_quota(arrivals: Sequence[Arrival], allowed: Allowed) -> list[str]:
    left = Counter(arrival.day for arrival in arrivals)
    found = []
    for day, count in sorted(left.items()):
        cap = allowed.caps.get(day, allowed.most_a_day)
        if cap is not None and count > cap:
            found.append(f"quota: {count} left on {day}, {cap} may")
    return found


def _find_dishonest(rows: Sequence[Row], allowed: Allowed) -> list[str]:
    """Unknown only where a fault hit, and no more than it can have hit."""
    unknown = defaultdict(list)
    for row in rows:
        if row.state == "unknown":
            unknown[row.pid or 0].append(row)
    return [
        f"unknown: {len(those)} of worker {pid}, at most {allowed.unknown.get(pid, 0)} were hit:"
        f" {those[0].key} {those[0].error}"
        for pid, those in unknown.items()
        if len(those) > allowed.unknown.get(pid, 0)
    ]


def _find_disorder(arrivals: Sequence[Arrival]) -> list[str]:
    """Messages of one lead arrive in the order of their numbers, on days of their own."""
    last: dict[str, tuple[int, date]] = {}
    wrong = []
    for arrival in arrivals:
        run, _, number = arrival.key.rpartition("-")
        before = last.get(run)
        is_other = before is not None and before[0] != int(number)
        if is_other and (int(number) < before[0] or arrival.day <= before[1]):
            wrong.append(arrival.key)
        last[run] = int(number), arrival.day
    return _words("out of order", wrong)


def _find_left_behind(conn: psycopg.Connection[Any]) -> list[str]:
    """Envelopes that nobody will read any more."""
    found = []
    for name in queue.list_names(conn):
        length = queue.get_metrics(conn, name)["queue_length"]
        if length:
            found.append(f"left behind: {length} envelopes in {name}")
    return found


def _words(what: str, keys: Collection[str]) -> list[str]:
    if not keys:
        return []
    some = sorted(keys)[:MOST_EXAMPLES]
    return [f"{what}: {', '.join(some)}{' ...' if len(keys) > len(some) else ''} ({len(keys)})"]
