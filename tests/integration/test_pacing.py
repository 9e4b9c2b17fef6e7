"""The pace per recipient domain: arithmetic, limits over any stretch of time, and races."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hyperdrip import pacing
from hyperdrip.db import connect
from hyperdrip.domain_limits import (
    LONGEST_WAIT_SECONDS,
    DomainLimits,
    Grant,
    domain_of,
    parse_domain_limits,
    spread,
)
from tests.roles import under

START = datetime(2024, 1, 15, 9, tzinfo=UTC)


def emails(count: int, domain: str = "example.com") -> list[str]:
    return [f"l{number}@{domain}" for number in range(count)]


@pytest.mark.parametrize(
    ("email", "domain"),
    [
        ("a@Example.COM", "example.com"),
        ('"a@b"@example.com', "example.com"),
        ("a@Bücher.example", "xn--bcher-kva.example"),
        ("a@example.com.", "example.com"),
        ("a@[127.0.0.1]", "[127.0.0.1]"),
    ],
)
def test_a_domain_is_compared_in_lower_case_ascii(email: str, domain: str) -> None:
    assert domain_of(email) == domain


def test_a_star_is_each_other_domains_own_pace(conn: psycopg.Connection) -> None:
    limits = parse_domain_limits("DOMAIN_LIMITS", "a.com=1/m, *=1/h")
    asked = ["x@a.com", "y@A.com", "x@b.com", "y@b.com", "x@c.com"]
    waits = pacing.reserve(conn, limits, asked, now=START).waits
    assert waits == [None, 60.0, None, 3600.0 if LONGEST_WAIT_SECONDS > 3600 else 600.0, None]


def test_a_limit_that_is_raised_counts_at_once(conn: psycopg.Connection) -> None:
    slow = parse_domain_limits("DOMAIN_LIMITS", "example.com=1/d")
    fast = parse_domain_limits("DOMAIN_LIMITS", "example.com=60/m")
    assert pacing.reserve(conn, slow, emails(1), now=START).waits == [None]
    (wait,) = pacing.reserve(conn, fast, emails(1), now=START).waits
    assert wait is not None
    assert wait < 10
    assert pacing.reserve(conn, fast, emails(1), now=START + timedelta(seconds=wait)).waits == [
        None
    ]


def test_a_clock_that_is_put_back_holds_nobody_up(conn: psycopg.Connection) -> None:
    limits = parse_domain_limits("DOMAIN_LIMITS", "example.com=60/m")
    assert pacing.reserve(conn, limits, emails(1), now=START + timedelta(days=1)).waits == [None]
    (wait,) = pacing.reserve(conn, limits, emails(1), now=START).waits
    assert wait is not None
    assert wait < 10
    assert pacing.reserve(conn, limits, emails(1), now=START + timedelta(seconds=wait)).waits == [
        None
    ]


def test_without_a_limit_nothing_is_asked(conn: psycopg.Connection) -> None:
    limits = parse_domain_limits("DOMAIN_LIMITS", "a.com=1/m")
    assert pacing.reserve(conn, limits, emails(3)).waits == [None] * 3
    assert conn.execute("select count(*) from hyperdrip.domain_pace").fetchone() == (0,)


@given(
    counts=st.lists(st.integers(0, 12), min_size=1, max_size=4),
    first=st.floats(0, 500),
    every=st.floats(0.001, 100),
    size=st.integers(0, 40),
)
def test_a_wave_is_spread_in_order_and_the_granted_go_first(
    counts: list[int], first: float, every: float, size: int
) -> None:
    grants = {f"d{n}": Grant(count, first, every) for n, count in enumerate(counts)}
    asked = [f"l@d{number % (len(counts) + 1)}" for number in range(size)]
    waits = spread(asked, grants)
    for domain, grant in grants.items():
        own = [w for email, w in zip(asked, waits, strict=True) if domain_of(email) == domain]
        assert own[: grant.count] == [None] * len(own[: grant.count])
        late = [w for w in own[grant.count :] if w is not None]
        assert len(late) == len(own[grant.count :])
        assert late == sorted(late)
        assert all(0 <= wait <= LONGEST_WAIT_SECONDS for wait in late)
    unlimited = f"d{len(counts)}"
    assert all(
        w is None for email, w in zip(asked, waits, strict=True) if domain_of(email) == unlimited
    )


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    every=st.sampled_from([0.01, 0.3, 0.5, 1.0, 3.0, 60.0]),
    requests=st.lists(
        st.tuples(st.floats(0, 20, allow_nan=False), st.integers(1, 30)), min_size=1, max_size=25
    ),
)
def test_in_no_stretch_of_time_do_more_go_than_the_limit_and_a_second(
    conn: psycopg.Connection, every: float, requests: list[tuple[float, int]]
) -> None:
    conn.execute("delete from hyperdrip.domain_pace")
    limits = DomainLimits({"example.com": every})
    now, sent = START, list[datetime]()
    for pause, count in requests:
        now += timedelta(seconds=pause)
        waits = pacing.reserve(conn, limits, emails(count), now=now).waits
        granted = [wait for wait in waits if wait is None]
        assert waits[: len(granted)] == granted
        late = [wait for wait in waits if wait is not None]
        assert all(wait > 0 for wait in late)
        assert late == sorted(late)
        sent += [now] * len(granted)
    for begin, first in enumerate(sent):
        for end in range(begin, len(sent)):
            seconds = (sent[end] - first).total_seconds()
            assert end - begin + 1 <= (seconds + 1) / every + 1 + 1e-6


def test_who_comes_when_told_finds_a_place_and_the_pace_is_used_in_full(
    conn: psycopg.Connection,
) -> None:
    limits = parse_domain_limits("DOMAIN_LIMITS", "example.com=20/m")
    waiting = [(START, email) for email in emails(100)]
    sent: list[datetime] = []
    asked = 0
    while waiting:
        now = waiting[0][0]
        due = [item for item in waiting if item[0] <= now + timedelta(milliseconds=1)][:10]
        waits = pacing.reserve(conn, limits, [email for _, email in due], now=now).waits
        asked += len(due)
        waiting = [item for item in waiting if item not in due]
        for (_, email), wait in zip(due, waits, strict=True):
            if wait is None:
                sent.append(now)
            else:
                waiting.append((now + timedelta(seconds=wait), email))
        waiting.sort()
    assert (sent[-1] - sent[0]).total_seconds() == pytest.approx(99 * 3.0, abs=5)
    assert asked <= 200  # nobody asks again and again


def test_places_of_what_did_not_leave_are_free_again_unless_one_was_taken_behind_them(
    conn: psycopg.Connection, dsn: str
) -> None:
    limits = parse_domain_limits("DOMAIN_LIMITS", "a.com=2/s, b.com=1/h, *=1/m")
    asked = [*emails(3, "a.com"), *emails(1, "b.com"), *emails(1, "c.com")]
    with connect(under(dsn, "worker")) as worker:
        first = pacing.reserve(worker, limits, asked, now=START)
        assert first.waits == [None, None, None, None, None]
        pacing.give_back(worker, limits, first, emails(2, "a.com") + emails(1, "b.com"))
        again = pacing.reserve(worker, limits, asked, now=START)
        assert again.waits[:2] == [None, None]  # those two, and no more
        assert again.waits[2] is not None
        assert again.waits[3] is None
        assert again.waits[4] == 60.0
        # Where somebody took one behind them it stays as it is: two would come at once.
        earlier = pacing.reserve(worker, limits, emails(1, "d.com"), now=START)
        later = pacing.reserve(
            worker, limits, emails(1, "d.com"), now=START + timedelta(seconds=60)
        )
        assert earlier.waits == later.waits == [None]
        pacing.give_back(worker, limits, earlier, [*emails(1, "d.com"), *emails(1, "e.com")])
    (free_at,) = conn.execute(
        "select free_at from hyperdrip.domain_pace where domain = 'd.com'"
    ).fetchone() or (None,)
    assert free_at == later.ends["d.com"] == START + timedelta(seconds=120)


@pytest.mark.parametrize("runners", [6])
def test_workers_that_race_share_one_pace_and_never_deadlock(
    dsn: str, conn: psycopg.Connection, runners: int
) -> None:
    limits = parse_domain_limits("DOMAIN_LIMITS", "*=10/m")
    domains = [f"d{number}.example" for number in range(8)]
    granted: list[str] = []
    errors: list[Exception] = []
    barrier = threading.Barrier(runners)

    def race(number: int) -> None:
        mine = domains[number % 3 :] + domains[: number % 3]
        try:
            with connect(under(dsn, "worker")) as own:
                barrier.wait(20)
                for _ in range(30):
                    asked = [f"l@{domain}" for domain in mine]
                    waits = pacing.reserve(own, limits, asked, now=START).waits
                    granted.extend(
                        domain for domain, wait in zip(mine, waits, strict=True) if wait is None
                    )
        except psycopg.Error as error:
            errors.append(error)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(runners)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert sorted(granted) == domains  # one of each in that instant
    assert conn.execute("select count(*) from hyperdrip.domain_pace").fetchone() == (8,)


def test_the_servers_own_clock_counts(
    conn: psycopg.Connection, new_conn: Callable[[], Any]
) -> None:
    limits = parse_domain_limits("DOMAIN_LIMITS", "example.com=1/h")
    assert pacing.reserve(conn, limits, emails(1)).waits == [None]
    (wait,) = pacing.reserve(new_conn(), limits, emails(1)).waits
    assert wait is not None
    conn.execute("update hyperdrip.domain_pace set free_at = free_at - interval '1 hour'")
    assert pacing.reserve(new_conn(), limits, emails(1)).waits == [None]
