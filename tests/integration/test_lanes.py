"""Lanes: several of one worker, in threads, that share a sender and the wish to stop."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from typing import Any

import psycopg
import pytest

from hyperdrip import Hyperdrip
from hyperdrip import instance as instances
from hyperdrip.db import connect
from hyperdrip.lanes import run_lanes
from hyperdrip.models import Claim, WorkerSummary
from hyperdrip.senders import Sender, Sent
from hyperdrip.senders.null import NullSender
from hyperdrip.signals import Stop
from hyperdrip.worker import Options, Worker
from tests.factories import SetClock, add_leads, assert_audit_ok, count_states, show_all, wait_until
from tests.integration.test_long_waves import QUEUE


class MeetingSender:
    """Sends a message only once another lane is at one of its own, for as long as there are two."""

    name = "meeting"
    wave_size = 1
    is_quiet = True

    def __init__(self) -> None:
        self.meeting = threading.Barrier(2, timeout=20)
        self.keys: list[str] = []

    def send_wave(
        self, claims: Sequence[Claim], may_send: Callable[[Claim], bool]
    ) -> Iterator[tuple[Claim, Sent]]:
        for claim in claims:
            assert may_send(claim)
            self.keys.append(claim.message_key)
            self.meeting.wait()
            yield claim, Sent()


def run_two(
    dsn: str,
    senders: Sequence[Sender],
    stop: Stop,
    *,
    is_drain: bool = True,
    connect_second: Callable[[], psycopg.Connection[Any]] | None = None,
) -> WorkerSummary:
    with ExitStack() as stack:
        lanes: list[Worker] = []
        for number, sender in enumerate(senders):
            lane = Worker(
                connect_second if number and connect_second else lambda: connect(dsn),
                sender,
                options=Options(poll_interval_ms=50, message_delay_ms=0, is_drain=is_drain),
                clock=SetClock(),
                stop=stop,
                beside=lanes[0] if lanes else None,
            )
            if not lanes:
                stack.enter_context(closing(lane))
                lane.begin()
            lanes.append(lane)
        return run_lanes(lanes, stop)


def test_two_lanes_send_side_by_side_and_each_message_once(
    dsn: str, conn: psycopg.Connection[Any]
) -> None:
    add_leads(conn, 10, messages=1)
    sender = MeetingSender()
    summary = run_two(dsn, [sender, sender], Stop())
    assert sorted(sender.keys) == sorted(f"lead_{number}-1-1" for number in range(1, 11))
    assert (summary.sent, summary.waiting) == (10, 0)
    assert count_states(conn) == {"sent": 10}
    workers = conn.execute("select count(*), count(stopped_at) from hyperdrip.worker").fetchone()
    assert workers == (2, 2)
    assert_audit_ok(conn)


def test_a_lane_that_breaks_ends_the_others_once_they_have_written_down_what_they_sent(
    dsn: str, conn: psycopg.Connection[Any]
) -> None:
    add_leads(conn, 4, messages=1)

    class Closed(psycopg.Connection[Any]):
        """Breaks at the first transaction in a way that no new connection mends."""

        def transaction(self, *_: object, **__: object) -> Any:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_two(
            dsn,
            [NullSender(), NullSender()],
            Stop(),
            is_drain=False,
            connect_second=lambda: Closed.connect(dsn, autocommit=True),
        )
    assert count_states(conn).get("sending", 0) == 0
    show_all(conn, QUEUE)
    assert_audit_ok(conn)


def test_one_signal_stops_all_lanes(dsn: str, conn: psycopg.Connection[Any]) -> None:
    add_leads(conn, 3, messages=1)
    stop = Stop()
    done: list[WorkerSummary] = []
    thread = threading.Thread(
        target=lambda: done.append(run_two(dsn, [NullSender(), NullSender()], stop, is_drain=False))
    )
    thread.start()
    wait_until(lambda: count_states(conn) == {"sent": 3})
    stop.set()
    thread.join()
    assert done[0].sent == 3


def add_worker_elsewhere(conn: psycopg.Connection[Any]) -> None:
    instances.insert_worker(conn, host="elsewhere", pid=1, sender="null")


def test_a_second_lane_ends_when_another_process_has_a_worker_and_the_first_goes_on(
    dsn: str, conn: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyperdrip.worker.HEARTBEAT_SECONDS", 0.0)
    add_leads(conn, 3, messages=1)
    stop = Stop()
    done: list[WorkerSummary] = []
    thread = threading.Thread(
        target=lambda: done.append(run_two(dsn, [NullSender(), NullSender()], stop, is_drain=False))
    )
    thread.start()
    wait_until(lambda: count_states(conn) == {"sent": 3})

    def ended() -> list[bool]:
        query = "select stopped_at is not null from hyperdrip.worker where host <> 'elsewhere'"
        return [is_stopped for (is_stopped,) in conn.execute(f"{query} order by id")]

    assert ended() == [False, False]
    add_worker_elsewhere(conn)
    wait_until(lambda: ended() == [False, True])
    add_leads(conn, 2, messages=1)
    wait_until(lambda: count_states(conn) == {"sent": 5})
    stop.set()
    thread.join()
    assert done[0].sent == 5
    assert ended() == [True, True]


@pytest.mark.parametrize(
    ("sender", "delay", "is_alone", "expected"),
    [("null", 0, True, 2), ("null", 0, False, 1), ("null", 1, True, 1), ("console", 0, True, 1)],
)
def test_a_worker_has_two_lanes_only_where_nothing_sets_its_pace(
    drip: Callable[..., Hyperdrip],
    conn: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
    sender: str,
    delay: int,
    *,
    is_alone: bool,
    expected: int,
) -> None:
    if not is_alone:
        add_worker_elsewhere(conn)
    seen: list[int] = []

    def run(lanes: Sequence[Worker], _stop: Stop) -> None:
        seen.append(len(lanes))
        for lane in lanes[1:]:
            lane.close()

    monkeypatch.setattr("hyperdrip.client.running.run_lanes", run)
    drip(SENDER=sender, WORKER_MESSAGE_DELAY=delay).run_worker(is_drain=True)
    assert seen == [expected]


def test_what_ends_the_first_lane_at_once_lets_no_other_go_on(
    dsn: str, conn: psycopg.Connection[Any]
) -> None:
    add_leads(conn, 2, messages=1)
    main = threading.current_thread()
    seen = threading.Event()

    class InterruptedSender(NullSender):
        wave_size = 1

        def send_wave(
            self, claims: Sequence[Claim], may_send: Callable[[Claim], bool]
        ) -> Iterator[tuple[Claim, Sent]]:
            if threading.current_thread() is main:
                seen.wait(20)
                raise KeyboardInterrupt
            seen.set()
            yield from ((claim, Sent()) for claim in claims if may_send(claim))

    stop = Stop()
    with pytest.raises(KeyboardInterrupt):
        run_two(dsn, [InterruptedSender(), InterruptedSender()], stop, is_drain=False)
    assert stop.is_set()
    lanes = [thread for thread in threading.enumerate() if thread.name == "hyperdrip-lane"]
    for thread in lanes:
        thread.join(20)
    assert not any(thread.is_alive() for thread in lanes)
    assert count_states(conn) == {"sent": 1, "sending": 1}


def test_a_worker_that_loses_the_database_while_it_looks_for_others_connects_again(
    drip: Callable[..., Hyperdrip], conn: psycopg.Connection[Any]
) -> None:
    add_leads(conn, 3, messages=1)

    def lose(_lane: Worker) -> None:
        conn.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )

    library = drip(SENDER="null", WORKER_MESSAGE_DELAY=0)
    assert library.run_worker(is_drain=True, on_start=lose).sent == 3
