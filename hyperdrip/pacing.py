"""The pace per recipient domain: one for all workers of a database, on the server's clock.

A message may go up to a second before its place, so that waves of a fast domain stay whole: in
any stretch of time there are at most as many as the limit has for that stretch and one second
more, and one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import psycopg

from hyperdrip.db import array, instant_array, nullable_array, query
from hyperdrip.domain_limits import (
    LONGEST_WAIT_SECONDS,
    DomainLimits,
    Grant,
    count_by_domain,
    spread,
)


@dataclass(frozen=True)
class Reserved:
    """Places that were taken for messages.

    `waits`: for each message in order the seconds that it has to wait; None: it may go now. `ends`:
    where the places of each domain end.
    """

    waits: Sequence[float | None]
    ends: Mapping[str, datetime] = field(default_factory=dict)


def reserve(
    conn: psycopg.Connection,
    limits: DomainLimits,
    emails: Sequence[str],
    *,
    now: datetime | None = None,
) -> Reserved:
    """Take places for messages to these addresses, as many as their domains let through.

    Who has to wait has taken no place, and asks again. `now`: for tests; the server's own clock
    otherwise. One statement, and two more for a domain that is new.
    """
    counts = count_by_domain(limits, emails)
    if not counts:
        return Reserved([None] * len(emails))
    grants, ends = _take(conn, limits, counts, now)
    new = {domain: count for domain, count in counts.items() if domain not in grants}
    if new:
        conn.execute(query("insert_paces"), {"domains": nullable_array(sorted(new))})
        more_grants, more_ends = _take(conn, limits, new, now)
        grants, ends = grants | more_grants, ends | more_ends
    return Reserved(spread(emails, grants), ends)


def give_back(
    conn: psycopg.Connection, limits: DomainLimits, reserved: Reserved, emails: Sequence[str]
) -> None:
    """Give the places of messages to these addresses back: they did not leave.

    Not those of a domain where somebody has taken a place meanwhile: two messages would come at
    once.
    """
    counts = count_by_domain(limits, emails)
    domains = [domain for domain in counts if domain in reserved.ends]
    if domains:
        conn.execute(
            query("return_pace"),
            {
                "domains": nullable_array(domains),
                "ends": instant_array(reserved.ends[domain] for domain in domains),
                "spans": array(counts[domain] * (limits.of(domain) or 0.0) for domain in domains),
            },
        )


def _take(
    conn: psycopg.Connection,
    limits: DomainLimits,
    counts: Mapping[str, int],
    now: datetime | None,
) -> tuple[dict[str, Grant], dict[str, datetime]]:
    every = {domain: limits.of(domain) or 0.0 for domain in counts}
    rows = conn.execute(
        query("reserve_pace"),
        {
            "domains": nullable_array(counts),
            "every": array(every.values()),
            "counts": array(counts.values()),
            "longest": LONGEST_WAIT_SECONDS,
            "now": now,
        },
    ).fetchall()
    grants = {domain: Grant(count, wait, every[domain]) for domain, count, wait, _ in rows}
    return grants, {domain: end for domain, _, _, end in rows}
