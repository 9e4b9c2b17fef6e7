"""The pace per recipient domain: one for all workers of a database, on the server's clock.

A message may go up to a second before its place, so that waves of a fast domain stay whole: in
any stretch of time there are at most as many as the limit has for that stretch and one second
more, and one.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

import psycopg

from hyperdrip.db import array, nullable_array, query
from hyperdrip.domain_limits import (
    LONGEST_WAIT_SECONDS,
    DomainLimits,
    Grant,
    count_by_domain,
    spread,
)


def reserve(
    conn: psycopg.Connection,
    limits: DomainLimits,
    emails: Sequence[str],
    *,
    now: datetime | None = None,
) -> list[float | None]:
    """Take places for messages to these addresses; for each in order the seconds it has to wait.

    None: it may go now. Who has to wait has taken no place, and asks again. `now`: for tests; the
    server's own clock otherwise. One statement, and two more for a domain that is new.
    """
    counts = count_by_domain(limits, emails)
    if not counts:
        return [None] * len(emails)
    grants = _take(conn, limits, counts, now)
    new = {domain: count for domain, count in counts.items() if domain not in grants}
    if new:
        conn.execute(query("insert_paces"), {"domains": nullable_array(sorted(new))})
        grants |= _take(conn, limits, new, now)
    return spread(emails, grants)


def _take(
    conn: psycopg.Connection,
    limits: DomainLimits,
    counts: Mapping[str, int],
    now: datetime | None,
) -> dict[str, Grant]:
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
    return {
        domain: Grant(granted, first_wait, every[domain]) for domain, granted, first_wait in rows
    }
