"""Reading several waves at a time, which workers do where each read takes long."""

from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from typing import Any

import psycopg
import pytest

from hyperdrip import delivery, queue, reading, standing
from hyperdrip import instance as instances
from hyperdrip.delivery import Batch, Claimed, Read, Request, finish_and_claim
from hyperdrip.models import Claim
from hyperdrip.reading import ReadAhead
from hyperdrip.signals import Stop
from tests.factories import (
    MONDAY,
    AnsweringSender,
    SetClock,
    add_leads,
    assert_audit_ok,
    count_states,
    drain,
    envelope_ids,
    make_worker,
    show_all,
)

Conn = psycopg.Connection[Any]
QUEUE = "test-drip-messages-2024-01-15"


@pytest.fixture
def quantities(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every read is a slow one; returns how many envelopes each of them asks for."""
    monkeypatch.setattr(reading, "SLOW_SECONDS_EACH", 0.0)
    monkeypatch.setattr(reading, "FEWEST", 0)
    asked: list[int] = []
    read = queue.read

    def noted(conn: Conn, name: str, *, vt_seconds: int, quantity: int) -> tuple[Any, datetime]:
        asked.append(quantity)
        return read(conn, name, vt_seconds=vt_seconds, quantity=quantity)

    monkeypatch.setattr(queue, "read", noted)
    return asked


def visible(conn: Conn) -> int:
    found = conn.execute(
        f'select count(*) from pgmq."q_{QUEUE}" where vt <= clock_timestamp()'
    ).fetchone()
    assert found is not None
    return int(found[0])


def at_hand_over(number: int, act: Callable[[], object]) -> Callable[[Claim], None]:
    """A hook that acts right before one hand-over."""
    hand_overs = iter(range(1, 1000))

    def before(_claim: Claim) -> None:
        if next(hand_overs) == number:
            act()

    return before


def test_slow_reads_bring_more_waves_each_time_and_each_envelope_is_read_once(
    conn: Conn, dsn: str, quantities: list[int]
) -> None:
    add_leads(conn, 60, messages=1)
    sender = AnsweringSender(wave_size=2)
    assert drain(dsn, sender).sent == 60
    # The last full one leaves 14, the next one finds fewer than it asks for.
    assert quantities[:6] == [2, 4, 8, 16, 16, 16]
    assert set(sender.waves) == {2}
    assert len(set(sender.keys)) == 60
    query = f'select distinct read_ct from pgmq."a_{QUEUE}"'
    assert conn.execute(query).fetchall() == [(1,)]
    assert_audit_ok(conn)


@pytest.mark.parametrize(
    ("waves", "count", "is_full", "seconds", "then"),
    [
        (1, 500, True, 0.011, 1),
        (1, 500, True, 0.07, 2),
        (2, 1000, True, 0.13, 4),
        (8, 4000, True, 0.50, 8),
        (8, 4000, True, 0.30, 8),  # neither slow nor quick
        (8, 4000, True, 0.20, 4),
        (1, 500, True, 0.0, 1),
        (8, 3999, False, 0.30, 1),  # the queue is nearly empty
        (1, 99, True, 1.0, 1),  # too few to tell
        (4, 0, False, 0.1, 1),
    ],
)
def test_how_many_waves_are_read_goes_by_how_long_an_envelope_took(
    waves: int, count: int, is_full: bool, seconds: float, then: int
) -> None:
    ahead = ReadAhead(waves)
    ahead.note(Claimed(read=Read(count, is_full, seconds)))
    assert ahead.waves == then
    ahead.note(Claimed(ahead=(7,)))
    assert (ahead.waves, ahead.envelope_ids) == (then, (7,))
    ahead.clear()
    assert (ahead.waves, ahead.envelope_ids) == (1, ())


@pytest.mark.usefixtures("quantities")
@pytest.mark.parametrize("what", ["stop", "pause", "limit"])
def test_what_was_read_and_is_not_claimed_any_more_can_be_seen_at_once(
    conn: Conn, dsn: str, what: str
) -> None:
    add_leads(conn, 60, messages=1)
    stop = Stop()
    acts: dict[str, Callable[[], object]] = {
        "stop": stop.set,
        "pause": lambda: instances.set_paused(conn, is_paused=True),
        "limit": lambda: instances.set_daily_max(conn, 20),
    }
    sender = AnsweringSender(wave_size=2, before=at_hand_over(15, acts[what]))
    sent = drain(dsn, sender, stop=stop).sent
    assert 14 <= sent <= 20
    assert count_states(conn) == {"sent": sent, "planned": 60 - sent}
    assert visible(conn) == 60 - sent
    assert_audit_ok(conn)


@pytest.mark.usefixtures("quantities")
def test_a_worker_that_dies_leaves_nothing_unknown_of_what_it_has_read_ahead(
    conn: Conn, dsn: str
) -> None:
    add_leads(conn, 60, messages=1)
    sender = AnsweringSender(wave_size=2)
    worker = make_worker(dsn, sender)
    for _ in range(4):  # 2 of 2, 2 and 2 of 4, 2 of 8
        assert worker.step()
    worker._conn.close()
    assert count_states(conn) == {"sent": 6, "sending": 2, "planned": 52}
    assert visible(conn) == 46
    show_all(conn, QUEUE)
    summary = drain(dsn, other := AnsweringSender(), on_unknown="hold")
    assert (summary.sent, summary.unknown) == (52, 2)
    assert not set(sender.keys) & set(other.keys)
    assert_audit_ok(conn)


def test_what_was_read_too_long_ago_is_shown_and_read_again(
    conn: Conn, dsn: str, quantities: list[int]
) -> None:
    add_leads(conn, 60, messages=1)
    sender = AnsweringSender(wave_size=2)
    with closing(make_worker(dsn, sender, vt_seconds=30)) as worker:
        for _ in range(4):
            assert worker.step()
        assert quantities == [2, 4, 8]
        worker._ahead.lease_ends -= 16  # of its 30 seconds, 14 are left
        assert worker.step()
        assert quantities == [2, 4, 8, 2]
        assert worker.run().sent == 60
    assert len(set(sender.keys)) == len(sender.keys) == 60
    assert_audit_ok(conn)


@pytest.mark.usefixtures("quantities")
def test_what_was_claimed_by_others_since_it_was_read_is_left_to_them(conn: Conn, dsn: str) -> None:
    add_leads(conn, 60, messages=1)
    sender = AnsweringSender(wave_size=2)
    with closing(make_worker(dsn, sender, vt_seconds=30)) as worker:
        for _ in range(4):
            assert worker.step()  # eight have been read and are not claimed
        show_all(conn, QUEUE)  # as if this one had slept for longer than its lease
        request = Request(4, MONDAY, "null", 99, 30)
        _, others = finish_and_claim(conn, SetClock(), "test", batch=Batch(), request=request)
        taken = {claim.envelope_id for claim in others.claims}
        assert len(taken) == 2  # and two that the worker is just sending
        assert taken < {*worker._ahead.envelope_ids}
        while worker.step():
            pass
        assert worker.summary().unknown == 0
    assert count_states(conn) == {"sent": 58, "sending": 2}
    assert len(set(sender.keys)) == len(sender.keys) == 58


@pytest.mark.usefixtures("quantities")
def test_what_a_lost_worker_was_sending_is_settled_by_the_read_that_finds_it(
    conn: Conn, dsn: str
) -> None:
    add_leads(conn, 60, messages=1)
    with closing(make_worker(dsn)) as worker:
        worker.begin()
    request = Request(20, MONDAY, "answering", 99, 30)
    finish_and_claim(conn, SetClock(), "test", batch=Batch(), request=request)
    show_all(conn, QUEUE)
    with closing(make_worker(dsn, AnsweringSender(wave_size=2), on_unknown="hold")) as worker:
        found = []
        for _ in range(4):  # reads of 2, 4, 8 and 16
            assert worker.step()
            found.append(count_states(conn).get("unknown", 0))
        assert found == [2, 6, 14, 20]
        assert worker.run().sent == 40
    assert_audit_ok(conn)


@pytest.mark.parametrize("is_committed", [True, False])
@pytest.mark.usefixtures("quantities")
def test_a_server_that_is_lost_at_a_claim_leaves_nothing_hidden(
    conn: Conn, dsn: str, monkeypatch: pytest.MonkeyPatch, is_committed: bool
) -> None:
    add_leads(conn, 60, messages=1)
    sender = AnsweringSender(wave_size=2)
    with closing(make_worker(dsn, sender, is_drain=False)) as worker:
        for _ in range(4):
            assert worker.step()
        claim = delivery._finish_and_claim

        def losing(*args: Any, **options: Any) -> Any:
            monkeypatch.setattr(delivery, "_finish_and_claim", claim)
            if is_committed:
                claim(*args, **options)
                raise psycopg.OperationalError("the reply was lost")
            with args[0].transaction():
                claim(*args, **options)
                raise psycopg.OperationalError("it was rolled back")

        monkeypatch.setattr(delivery, "_finish_and_claim", losing)
        with pytest.raises(psycopg.OperationalError):
            worker.step()
        worker._reconnect(psycopg.OperationalError("lost"))
    unsent = count_states(conn)["planned"]
    assert visible(conn) == unsent
    assert len(set(sender.keys)) == len(sender.keys)


@pytest.mark.usefixtures("quantities")
def test_leads_that_are_stopped_or_paused_behind_a_read_get_nothing(conn: Conn, dsn: str) -> None:
    ids = list(add_leads(conn, 60, messages=1).lead_ids)
    sender = AnsweringSender(wave_size=2)
    with closing(make_worker(dsn, sender)) as worker:
        for _ in range(4):
            assert worker.step()
        gone = ids[8:14]  # all of them have been read
        standing.pause_leads(conn, SetClock(), gone[:3], reason=None)
        standing.stop_leads(conn, SetClock(), gone[3:], reason="test")
        assert worker.run().sent == 54
    assert not {claim.lead_id for claim in sender.handed_over} & set(gone)
    assert_audit_ok(conn)


@pytest.mark.usefixtures("quantities")
def test_what_was_read_before_midnight_is_late_like_all_the_rest(conn: Conn, dsn: str) -> None:
    add_leads(conn, 60, messages=1)
    sender, clock = AnsweringSender(wave_size=2), SetClock()
    with closing(make_worker(dsn, sender, clock=clock)) as worker:
        for _ in range(4):
            assert worker.step()
        clock.now = clock.now.replace(day=16)
        assert worker.run().sent == 60
    assert len(set(sender.keys)) == len(sender.keys) == 60
    assert count_states(conn, MONDAY) == {"sent": 8}
    assert_audit_ok(conn)


@pytest.mark.usefixtures("quantities")
def test_there_is_more_to_do_while_something_that_was_read_is_not_claimed(
    conn: Conn, dsn: str
) -> None:
    add_leads(conn, 60, messages=1)
    # Not by a command, which would have taken their messages back.
    conn.execute("update hyperdrip.lead set status = 'PAUSED'")
    with closing(make_worker(dsn, AnsweringSender(wave_size=2))) as worker:
        worker.begin()
        worker._blocked.update(envelope_ids(conn, QUEUE))  # as if all had been blocked before
        assert [worker.step() for _ in range(3)] == [False, True, True]  # 2, then 4 in two waves


@pytest.mark.usefixtures("quantities")
def test_the_lease_of_a_wave_is_extended_by_when_it_was_read(
    conn: Conn, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyperdrip.dispatch.LOOK_SECONDS", 0.0)
    add_leads(conn, 60, messages=1)
    seconds: list[float] = []

    class Waiting(AnsweringSender):
        def send_wave(self, claims: Any, may_send: Any) -> Any:
            yield None  # a look at the lease
            query = (
                "select min(extract(epoch from vt - clock_timestamp()))::float8"
                f' from pgmq."q_{QUEUE}" where msg_id = any(%s)'
            )
            ids = [claim.envelope_id for claim in claims]
            seconds.extend(*conn.execute(query, [ids]).fetchall())
            yield from super().send_wave(claims, may_send)

    with closing(make_worker(dsn, Waiting(wave_size=2), vt_seconds=24)) as worker:
        for _ in range(4):
            assert worker.step()
        conn.execute(f"update pgmq.\"q_{QUEUE}\" set vt = vt - interval '9 s'")
        worker._ahead.lease_ends -= 9  # more than a third of it
        assert worker.step()
        assert seconds[-1] > 20
        assert worker.run().sent == 60
