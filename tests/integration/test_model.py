"""Whatever happens in whatever order, the promises hold: a state machine with a movable clock."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from hyperdrip import instance as instances
from hyperdrip import leads, ledger, limits, queue, quota, reconciling, rollover, standing
from hyperdrip.clock import day_of
from hyperdrip.db import connect
from hyperdrip.models import Claim, LeadStatus, MessageKey
from hyperdrip.reconciling import Which
from hyperdrip.rollover import Policy
from hyperdrip.senders import Failed, Later, Outcome, Refused, Retry, Sent, Unknown
from tests.database import Server
from tests.factories import (
    AnsweringSender,
    HookFailed,
    SetClock,
    add_leads,
    assert_audit_ok,
    count_states,
    envelope_ids,
    make_worker,
    show_all,
)

START = datetime(2024, 1, 15, 9, tzinfo=UTC)
LONGEST_RUN_DAYS = 400
EXAMPLES = 12


class Killed(BaseException):
    """The worker's process is gone."""


OUTCOMES = st.sampled_from(
    [
        *[Sent()] * 3,
        Retry("451"),
        Failed("550"),
        Failed("550 5.1.1", is_address_dead=True),
        Refused("421"),
        Later("a pace", 5),
        Unknown("died"),
        Killed(),
    ]
)
# Makes the pauses after refusals a thousand times as short.
HURRY = -1.9975
NUMBERS = st.sets(st.integers(0, 30), min_size=1, max_size=6)
ONE_OR_ALL = st.none() | st.integers(0, 30)
ENDED = {"FAILED", "STOPPED"}


class Calendar(RuleBasedStateMachine):
    """Leads, planners and workers on one database, one after the other, with faults between."""

    server: Server

    def __init__(self) -> None:
        super().__init__()
        self.dsn = self.server.create()
        self.conn = connect(self.dsn)
        self.clock = SetClock(START)
        instances.set_daily_max(self.conn, 4)
        self.ids: list[int] = []
        self.silent: set[int] = set()
        self.may_have_left: Counter[date] = Counter()
        self.limits: dict[date, int] = {}
        self.held: set[str] = set()
        self.sent_again: set[str] = set()
        self.is_paused = False
        self.newest = START.date()

    def teardown(self) -> None:
        try:
            self.finish()
        finally:
            self.conn.close()
            self.server.drop(self.dsn)

    # What people do

    @initialize(count=st.integers(1, 6), messages=st.integers(1, 4))
    def begin(self, count: int, messages: int) -> None:
        self.add(count, messages, later=0)

    @rule(count=st.integers(1, 6), messages=st.integers(1, 4), later=st.integers(0, 3))
    def add(self, count: int, messages: int, later: int) -> None:
        start = max(self.today, self.newest) + timedelta(days=later)
        found = add_leads(self.conn, count, clock=self.clock, messages=messages, start=start)
        self.ids += found.lead_ids

    @rule(numbers=NUMBERS)
    def pause(self, numbers: set[int]) -> None:
        paused = standing.pause_leads(self.conn, self.clock, self.chosen(numbers), reason=None)
        self.silent |= set(paused.lead_ids)

    @rule(numbers=NUMBERS)
    def resume(self, numbers: set[int]) -> None:
        resumed = standing.resume_leads(
            self.conn, self.clock, self.chosen(numbers), with_email=True
        )
        self.silent -= set(resumed.lead_ids) - self.suppressed()

    @rule(numbers=NUMBERS)
    def stop(self, numbers: set[int]) -> None:
        self.silent |= set(
            standing.stop_leads(
                self.conn, self.clock, self.chosen(numbers), reason="replied"
            ).lead_ids
        )

    @rule(number=st.integers(0, 30))
    def suppress(self, number: int) -> None:
        for lead_id in self.chosen({number}):
            self.conn.execute(
                "insert into hyperdrip.suppression select lower(email), 'bounced'"
                " from hyperdrip.lead where id = %s on conflict do nothing",
                [lead_id],
            )
            self.silent.add(lead_id)

    @rule(daily_max=st.integers(1, 8))
    def limit(self, daily_max: int) -> None:
        limits.apply_change(
            self.conn, self.clock, limits.Change(daily_max=daily_max), with_email=True
        )
        self.note_limit()

    @rule(later=st.integers(0, 4), capacity=st.none() | st.integers(0, 8))
    def limit_a_day(self, later: int, capacity: int | None) -> None:
        day = max(self.today, self.newest) + timedelta(days=later)
        limits.apply_change(
            self.conn, self.clock, limits.Change(capacities={day: capacity}), with_email=True
        )
        self.note_limit()

    @rule()
    def pause_or_resume_all(self) -> None:
        self.is_paused = not self.is_paused
        instances.set_paused(self.conn, is_paused=self.is_paused)

    # What somebody found out about messages of unknown fate

    @rule(number=ONE_OR_ALL)
    def mark_as_sent(self, number: int | None) -> None:
        self.have_something_unknown()
        meant, before = self.unknown(number), self.standing()
        marked = reconciling.mark_sent(self.conn, self.clock, self.which(number))
        assert marked.messages == len(meant)
        assert not self.unknown(number)
        assert self.standing() == before

    @rule(number=ONE_OR_ALL, ended=st.integers(0, 2))
    def send_again(self, number: int | None, ended: int) -> None:
        self.have_something_unknown(ended)
        meant, before = self.unknown(number), self.standing()
        hindered = {lead_id for lead_id, status in before.items() if status in ENDED}
        lost = {key for key in meant if key[0] in hindered | self.suppressed()}
        found = reconciling.send_again(self.conn, self.clock, self.which(number), with_email=True)
        assert (found.messages, found.left_out.keys()) == (len(meant - lost), lost)
        assert self.unknown(number) == lost
        goes_on = {lead_id: "ACTIVE" for lead_id, _, _ in meant - lost}
        paused = {lead_id: status for lead_id, status in before.items() if status == "PAUSED"}
        assert self.standing() == before | goes_on | paused
        keys = {_key(*key) for key in meant - lost}
        self.held -= keys
        self.sent_again |= keys

    @rule(number=ONE_OR_ALL, ended=st.integers(0, 2))
    def cancel(self, number: int | None, ended: int) -> None:
        self.have_something_unknown(ended)
        meant, before = self.unknown(number), self.standing()
        over = {key for key in meant if before[key[0]] in ENDED}
        found = reconciling.cancel(self.conn, self.clock, self.which(number))
        assert (found.messages, found.left_out.keys()) == (len(over), meant - over)
        assert self.unknown(number) == meant - over
        assert self.standing() == before

    def have_something_unknown(self, ended: int = 0) -> None:
        """Left to chance it would be rare that there is something to reconcile.

        `ended`: so many of these messages are of leads that are stopped.
        """
        if not self.unknown():
            self.lose_answers(wave_size=10)
        self.stop({self.ids.index(lead_id) for lead_id, _, _ in sorted(self.unknown())[:ended]})

    # What time does

    @rule(hours=st.integers(1, 80))
    def wait(self, hours: int) -> None:
        self.clock.now += timedelta(hours=hours)

    @rule(hours=st.integers(1, 80))
    def set_the_clock_back(self, hours: int) -> None:
        now = self.clock.now
        self.clock.now = max(START, now - timedelta(hours=hours))
        self.work([Sent()], wave_size=10, name="smtp")
        self.clock.now = now

    @rule()
    def end_leases(self) -> None:
        for name in queue.list_names(self.conn):
            show_all(self.conn, name)

    # What workers do

    @rule(
        outcomes=st.lists(OUTCOMES, min_size=1, max_size=5),
        wave_size=st.sampled_from([1, 2, 10]),
        name=st.sampled_from(["null", "smtp"]),
    )
    def work(self, outcomes: list[Outcome | Killed], wave_size: int, name: str) -> None:
        answers = list(outcomes)

        def answer(claim: Claim) -> Outcome:
            found = answers.pop(0) if answers else Sent()
            self.check_hand_over(claim)
            if not isinstance(found, Retry | Failed | Refused | Later):
                self.may_have_left[self.today] += 1
                if name == "smtp":
                    self.held.add(claim.message_key)
            if isinstance(found, Killed):
                raise found
            return found

        sender = AnsweringSender(answer, name=name, wave_size=wave_size)
        self.note_limit()
        hurried = make_worker(self.dsn, sender, clock=self.clock, max_attempts=3, chance=HURRY)
        with closing(hurried) as worker:
            try:
                while worker.step():
                    pass
            except Killed:
                pass
            except HookFailed as error:
                raise error.__cause__ or error from None
        self.newest = max(self.newest, self.today)
        failed = leads.list_leads(
            self.conn, status=LeadStatus.FAILED, campaign=None, limit=len(self.ids) + 1
        )
        self.silent |= {lead.id for lead in failed}

    @rule(wave_size=st.sampled_from([1, 2, 10]))
    def lose_answers(self, wave_size: int) -> None:
        self.work([Unknown("died")] * 4, wave_size, name="smtp")

    @rule()
    def roll_over(self) -> None:
        rollover.roll_over(self.conn, self.clock, Policy(max_attempts=3))
        self.newest = max(self.newest, self.today)

    # What has to hold

    @invariant()
    def the_tables_agree(self) -> None:
        assert_audit_ok(self.conn)

    @invariant()
    def no_day_exceeds_the_limits_that_it_had(self) -> None:
        for day, count in self.may_have_left.items():
            assert count <= self.limits[day], day

    @invariant()
    def messages_of_a_lead_left_in_order_on_days_of_their_own(self) -> None:
        """What was sent again left when it could, so it may be behind what had left already."""
        left: dict[int, list[date]] = defaultdict(list)
        in_order: dict[int, list[date]] = defaultdict(list)
        for lead_id, run, number, day in self.conn.execute(
            "select lead_id, run, number, day from hyperdrip.message"
            " where state in ('sent', 'unknown') order by lead_id, run, number"
        ):
            left[lead_id].append(day)
            if _key(lead_id, run, number) not in self.sent_again:
                in_order[lead_id].append(day)
        assert all(len(set(days)) == len(days) for days in left.values())
        assert all(sorted(days) == days for days in in_order.values())

    @invariant()
    def nothing_open_lies_on_a_closed_day(self) -> None:
        found = self.conn.execute(
            "select lead_id, number, day"
            " from hyperdrip.message join hyperdrip.quota_day using (day)"
            " where is_closed and state in ('planned', 'sending')"
        ).fetchall()
        assert found == []

    def check_hand_over(self, claim: Claim) -> None:
        assert claim.lead_id not in self.silent
        assert claim.message_key not in self.held, "a message that is held was sent again"
        assert not self.is_paused
        assert claim.day == self.today >= self.newest
        rows = ledger.list_lead_messages(self.conn, [claim.lead_id])
        before = [row.state for row in rows if row.number < claim.number]
        assert set(before) <= {"sent", "unknown"}

    def finish(self) -> None:
        """From any state: when faults end, every message comes to its end."""
        if self.is_paused:
            self.pause_or_resume_all()
        self.limit(8)
        for day in quota.list_days(
            self.conn,
            first_day=self.today,
            last_day=None,
            instance=instances.require_instance(self.conn),
        ):
            limits.apply_change(
                self.conn,
                self.clock,
                limits.Change(capacities={max(day.day, self.newest): None}),
                with_email=True,
            )
        for _ in range(LONGEST_RUN_DAYS):
            self.resume(set(range(len(self.ids))))
            self.end_leases()
            self.work([Sent()], wave_size=10, name="null")
            self.the_tables_agree()
            if not {"planned", "sending"} & set(count_states(self.conn)):
                break
            self.clock.now += timedelta(days=1)
        else:
            pytest.fail("messages are left where nobody reads")
        self.clock.now += timedelta(days=1)
        self.roll_over()
        assert all(envelope_ids(self.conn, name) == [] for name in queue.list_names(self.conn))
        assert quota.list_open_days(self.conn, self.today) == []
        statuses = {status for (status,) in self.conn.execute("select status from hyperdrip.lead")}
        assert statuses <= {"COMPLETED", "FAILED", "STOPPED"}
        reconciling.mark_sent(self.conn, self.clock, Which())
        assert not self.unknown()
        self.the_tables_agree()

    # Small words

    @property
    def today(self) -> date:
        return day_of(self.clock.now, "UTC")

    def chosen(self, numbers: Iterable[int]) -> list[int]:
        return [self.ids[number] for number in numbers if number < len(self.ids)]

    def which(self, number: int | None) -> Which:
        return Which() if number is None else Which(lead_id=self.chosen_one(number))

    def chosen_one(self, number: int) -> int:
        return self.ids[number % len(self.ids)]

    def unknown(self, number: int | None = None) -> set[MessageKey]:
        """The messages of unknown fate, of one lead or of all."""
        rows: list[MessageKey] = self.conn.execute(
            "select lead_id, run, number from hyperdrip.message where state = 'unknown'"
        ).fetchall()
        return {key for key in rows if number is None or key[0] == self.chosen_one(number)}

    def standing(self) -> dict[int, str]:
        return dict(self.conn.execute("select id, status from hyperdrip.lead").fetchall())

    def suppressed(self) -> set[int]:
        rows: list[tuple[Any]] = self.conn.execute(
            "select id from hyperdrip.lead join hyperdrip.suppression on email_key = lower(email)"
        ).fetchall()
        return {lead_id for (lead_id,) in rows}

    def note_limit(self) -> None:
        instance = instances.require_instance(self.conn)
        (day,) = quota.list_every_day(
            self.conn, first_day=self.today, last_day=self.today, instance=instance
        )
        self.limits[self.today] = max(self.limits.get(self.today, 0), day.capacity)


def _key(lead_id: int, run: int, number: int) -> str:
    return f"lead_{lead_id}-{run}-{number}"


@pytest.mark.slow
def test_the_promises_hold_in_any_order_of_events(server: Server) -> None:
    class OnThisServer(Calendar):
        pass

    OnThisServer.server = server
    run_state_machine_as_test(
        OnThisServer,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=25,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
