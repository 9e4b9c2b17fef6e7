"""Campaigns in the database: versions, who gets which, and messages that cannot be written."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from hyperdrip import Hyperdrip, campaigns, db
from hyperdrip.errors import CampaignError, InvalidDataError, NotFoundError, RenderError
from hyperdrip.models import Campaign, Claim, LeadStatus, Step
from hyperdrip.rendering import compile_campaign
from hyperdrip.senders import Outcome, Sent, Unwritten
from tests.factories import (
    MONDAY,
    AnsweringSender,
    SetClock,
    assert_audit_ok,
    count_states,
    work,
)
from tests.roles import under

TRIAL = Campaign(
    "trial",
    tuple(
        Step(n, f"Step {n} for {{{{ first_name }}}}", f"Old text {n}", delay_days=n)
        for n in (1, 2, 3)
    ),
    mail_from="Ada <ada@example.com>",
    values={"product": "Acme", "prices": [1, 2.5, {"a": None}]},
)
NAMES = {"name": "Ada Marlowe", "campaign": "trial"}


def edit(number: int, markdown: str, campaign: Campaign = TRIAL) -> Campaign:
    """The campaign with another text in one step."""
    steps = [replace(s, markdown=markdown) if s.number == number else s for s in campaign.steps]
    return replace(campaign, steps=tuple(steps))


class WritingSender(AnsweringSender):
    """Writes each message as a real sender has to, with the rights of a worker alone."""

    def __init__(self, dsn: str, **options: Any) -> None:
        super().__init__(**options)
        self.dsn = dsn
        self.texts: dict[str, str] = {}

    def send_wave(
        self, claims: Sequence[Claim], may_send: Callable[[Claim], bool]
    ) -> Iterator[tuple[Claim, Outcome]]:
        self.waves.append(len(claims))
        with db.connect(under(self.dsn, "worker")) as conn:
            for claim in claims:
                found = campaigns.require_campaign(conn, claim.campaign, claim.campaign_version)
                self._asserting(self.before, claim)
                try:
                    rendered = compile_campaign(found.campaign).render(
                        claim.number, claim.recipient
                    )
                except RenderError as error:
                    yield claim, Unwritten(str(error))
                    continue
                if not may_send(claim):
                    return
                self.texts[claim.message_key] = rendered.text.strip()
                yield claim, Sent()


def on(day: int) -> SetClock:
    """Noon of a day, Monday being 0."""
    return SetClock(f"2024-01-{15 + day}T12:00:00Z")


def versions(conn: psycopg.Connection[Any], lead_id: int) -> list[tuple[int, str, int]]:
    return conn.execute(
        "select number, state, campaign_version from hyperdrip.message where lead_id = %s"
        " order by number",
        [lead_id],
    ).fetchall()


def test_a_stored_version_is_read_back_as_it_was_and_unchanged_it_is_not_stored_again(
    drip: Callable[..., Hyperdrip],
) -> None:
    with drip() as one:
        whole = replace(
            TRIAL,
            reply_to="b@example.com",
            footer="{{ email }}",
            steps=(*TRIAL.steps, Step(4, "s", "m", preheader="p", plain_text="t\n\tu")),
        )
        first = one.apply_campaign(whole)
        assert (first.version, [c.kind for c in first.changes]) == (1, ["added"] * 5)
        assert one.require_campaign("trial").campaign == whole
        again = one.apply_campaign(whole, is_moving=True)
        assert (again.version, again.changes, again.moved) == (1, (), ())
        dry = one.apply_campaign(TRIAL, is_dry_run=True)
        assert [(c.part, c.kind) for c in dry.changes] == [
            ("campaign", "changed"), ("step 4", "removed"),
        ]  # fmt: skip
        assert one.diff_campaign(TRIAL) == (1, dry.changes)
        assert one.require_campaign("trial").version == 1
        with pytest.raises(NotFoundError, match="no version 2 of the campaign 'trial'; the newest"):
            one.require_campaign("trial", 2)
        with pytest.raises(InvalidDataError, match="built-in campaign, which stays as it is"):
            one.apply_campaign(replace(TRIAL, name="default"))


def test_the_built_in_campaign_can_be_written_for_any_number(
    drip: Callable[..., Hyperdrip],
) -> None:
    with drip() as one:
        for number in (1, 2, 365):
            rendered = one.preview_step("default", number).rendered
            assert (rendered.number, rendered.subject) == (number, "A message for Ada")
            assert rendered.text.startswith("Hi Ada,\n\n")
        lead = one.add_lead(name="m.k@example.com", email="m.k@example.com")
        to_nameless = one.preview_step("default", 7, lead=lead.key).rendered
        assert (to_nameless.subject, to_nameless.text[:9]) == ("A message for you", "Hi there,")


def test_leads_under_way_keep_the_old_text_new_ones_get_the_new_one_and_moving_moves(
    dsn: str, conn: psycopg.Connection[Any], drip: Callable[..., Hyperdrip]
) -> None:
    with drip() as one:
        one.apply_campaign(TRIAL)
        old, moved = (one.add_lead(email=f"{n}@example.com", **NAMES) for n in "ab")
        sender = WritingSender(dsn)
        work(dsn, sender, clock=on(0))

        edited = one.apply_campaign(edit(2, "New text 2"))
        assert (edited.version, edited.under_way, edited.moved) == (2, {1: 2}, ())
        new = one.add_lead(email="c@example.com", **NAMES)
        # The other one waits, so that it is moved later.
        one.pause_leads([moved.key])
        for day in (0, 2):
            work(dsn, sender, clock=on(day))
        assert sender.texts == {
            "lead_1-1-1": "Old text 1", "lead_2-1-1": "Old text 1", "lead_3-1-1": "Old text 1",
            "lead_1-1-2": "Old text 2", "lead_3-1-2": "New text 2",
        }  # fmt: skip

        third = edit(3, "Newest text 3", edit(2, "New text 2"))
        dry = one.apply_campaign(third, is_moving=True, is_dry_run=True)
        assert (dry.moved, dry.messages, dry.under_way) == ((1, 2, 3), 4, {1: 2, 2: 1})
        assert {v: [c.part for c in cs] for v, cs in dry.differences.items()} == {
            1: ["step 2", "step 3"], 2: ["step 3"],
        }  # fmt: skip
        assert one.require_campaign("trial").version == 2
        done = one.apply_campaign(third, is_moving=True, rehearsed=dry)
        assert (done.version, done.moved, done.messages) == (3, (1, 2, 3), 4)
        assert versions(conn, old.id) == [(1, "sent", 1), (2, "sent", 1), (3, "planned", 3)]
        assert versions(conn, new.id) == [(1, "sent", 2), (2, "sent", 2), (3, "planned", 3)]
        assert one.require_lead(moved.key).campaign_version == 3
        one.resume_leads([moved.key])
        for day in range(2, 9):
            work(dsn, sender, clock=on(day))
        assert sender.texts["lead_2-1-2"] == "New text 2"
        assert {sender.texts[f"lead_{n}-1-3"] for n in (1, 2, 3)} == {"Newest text 3"}
    assert count_states(conn) == {"sent": 9}
    assert_audit_ok(conn)


def test_a_message_that_is_being_sent_keeps_its_version(
    dsn: str, conn: psycopg.Connection[Any], drip: Callable[..., Hyperdrip]
) -> None:
    with drip() as one:
        one.apply_campaign(TRIAL)
        lead = one.add_lead(email="a@example.com", **NAMES)

        def apply(_claim: Claim) -> None:
            assert one.apply_campaign(edit(1, "New text 1"), is_moving=True).messages == 2

        sender = WritingSender(dsn, before=apply)
        work(dsn, sender, clock=on(0))
        assert sender.texts == {"lead_1-1-1": "Old text 1"}
        assert versions(conn, lead.id) == [(1, "sent", 1), (2, "planned", 2), (3, "planned", 2)]
    assert_audit_ok(conn)


def test_nothing_is_stored_when_a_lead_that_would_move_could_not_be_written_to(
    conn: psycopg.Connection[Any], drip: Callable[..., Hyperdrip]
) -> None:
    with drip() as one:
        one.apply_campaign(TRIAL)
        good = one.add_lead(email="a@example.com", fields={"company": "Acme"}, **NAMES)
        bad = one.add_lead(email="b@example.com", **NAMES)
        edited = edit(2, "{{ fields.company }}")
        with pytest.raises(CampaignError, match=r"^lead_2: step 2: fields\.company is missing; "):
            one.apply_campaign(edited, is_moving=True)
        dry = one.apply_campaign(edited, is_moving=True, is_dry_run=True)
        assert [(f.lead_id, f.number) for f in dry.failures] == [(bad.id, 2)]
        assert (dry.moved, one.require_campaign("trial").version) == ((), 1)
        assert {v for lead in (good, bad) for _, _, v in versions(conn, lead.id)} == {1}
        # Without moving it stops nobody, and is said.
        assert one.apply_campaign(edited).failures == dry.failures


def test_a_lead_with_more_messages_to_come_than_there_are_steps_stays_on_its_version(
    conn: psycopg.Connection[Any], drip: Callable[..., Hyperdrip]
) -> None:
    with drip() as one:
        one.apply_campaign(TRIAL)
        whole = one.add_lead(email="a@example.com", **NAMES)
        short = one.add_lead(email="b@example.com", max_messages=2, **NAMES)
        assert (whole.max_messages, short.max_messages) == (3, 2)
        shortened = replace(TRIAL, steps=TRIAL.steps[:2])
        done = one.apply_campaign(shortened, is_moving=True)
        assert done.moved == (short.id,)
        assert done.left_out == {
            whole.id: "has a message 3 to come and version 2 has 2 steps",
        }
        # A longer one is no reason to write more often to somebody.
        longer = replace(TRIAL, steps=(*TRIAL.steps, Step(4, "s", "m")))
        assert one.apply_campaign(longer, is_moving=True).messages == 5
        assert one.require_lead(short.key).max_messages == 2
    assert_audit_ok(conn)


def test_a_campaign_gives_a_message_for_each_step_or_fewer(
    conn: psycopg.Connection[Any], drip: Callable[..., Hyperdrip]
) -> None:
    with drip(MAX_MESSAGES=2) as one:
        one.apply_campaign(TRIAL)
        too_many = "max-messages=4 is more than the campaign 'trial' has steps"
        for enrol in (
            lambda: one.add_lead(email="x@example.com", max_messages=4, **NAMES),
            lambda: one.forecast(add=1, max_messages=4, campaign="trial"),
        ):
            with pytest.raises(InvalidDataError, match=too_many):
                enrol()
        assert one.add_lead(email="a@example.com", **NAMES).max_messages == 3
        assert one.add_lead(name="Ben", email="b@example.com").max_messages == 2
        assert one.forecast(add=10, campaign="trial").messages == 30
        one.stop_leads(["b@example.com"])
        assert one.enroll_leads(["b@example.com"], campaign="trial").messages == 3
        insert = "select hyperdrip.add_lead(name => 'C', email => %s, campaign => %s{})"
        with conn.transaction():
            conn.execute("set local hyperdrip.now = '2024-01-15T09:00:00Z'")
            for email, campaign, count in (("c@a.org", "trial", 3), ("d@a.org", "default", 5)):
                conn.execute(insert.format(""), [email, campaign])  # type: ignore[arg-type]
                row = conn.execute(
                    "select max_messages from hyperdrip.lead where email = %s", [email]
                ).fetchone()
                assert row == (count,)
        with pytest.raises(psycopg.errors.InvalidParameterValue, match=too_many):
            conn.execute(insert.format(", max_messages => 4"), ["e@a.org", "trial"])  # type: ignore[arg-type]
    assert_audit_ok(conn)


def test_a_message_that_cannot_be_written_pauses_its_lead_and_uses_no_quota(
    dsn: str, conn: psycopg.Connection[Any], drip: Callable[..., Hyperdrip]
) -> None:
    with drip() as one:
        one.set_daily_max(2)
        one.apply_campaign(edit(1, "For {{ fields.company }}"))
        bad = one.add_lead(email="a@example.com", **NAMES)
        good = one.add_lead(email="b@example.com", fields={"company": "Acme"}, **NAMES)
        sender = WritingSender(dsn)
        summary = work(dsn, sender, clock=on(0))
        assert (summary.sent, summary.skipped, summary.retried) == (1, 1, 0)
        paused = one.require_lead(bad.key)
        reason = "step 1: fields.company is missing; give the lead one, or write"
        assert paused.status is LeadStatus.PAUSED
        assert str(paused.status_reason).startswith(reason)
        first, *later = one.list_lead_messages(paused)
        assert (first.day, first.attempts) == (None, 0)
        assert str(first.error).startswith(reason)
        assert all(message.day is None for message in later)
        assert one.require_lead(good.key).status is LeadStatus.ACTIVE
        today = one.quota_today()[0]
        assert (today.sent, today.scheduled, today.free) == (1, 0, 1)
        assert_audit_ok(conn)

        conn.execute("""update hyperdrip.lead set fields = '{"company": "Northwind"}'""")
        one.resume_leads([bad.key])
        work(dsn, sender, clock=on(0))
        assert sender.texts["lead_1-1-1"] == "For Northwind"
        assert count_states(conn, MONDAY) == {"sent": 2}
    assert_audit_ok(conn)


def test_stats_count_each_step_and_who_left_after_it(
    dsn: str, drip: Callable[..., Hyperdrip]
) -> None:
    with drip() as one:
        one.apply_campaign(TRIAL)
        for n in range(4):
            one.add_lead(email=f"{n}@example.com", **NAMES)
        work(dsn, WritingSender(dsn), clock=on(0))
        one.stop_leads(["lead_1", "lead_2"], reason="unsubscribed")
        one.stop_leads(["lead_3"], reason="by hand")
        counts = [
            (one.number, one.planned, one.sent, one.failed, one.unknown, one.unsubscribed)
            for one in one.campaign_stats("trial")
        ]
        assert counts == [(1, 0, 4, 0, 0, 2), (2, 1, 0, 0, 0, 0), (3, 1, 0, 0, 0, 0)]
        with pytest.raises(NotFoundError, match="no campaign 'gone'"):
            one.campaign_stats("gone")
