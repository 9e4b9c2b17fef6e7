"""What senders are made of: messages written out, and settings that have to be there."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime
from email import message_from_bytes, policy
from threading import Barrier
from typing import Any

import pytest

from hyperdrip.errors import (
    DatabaseUnavailable,
    MissingSettingsError,
    RenderError,
    SettingsError,
)
from hyperdrip.models import Campaign, Claim, Step
from hyperdrip.senders import kit as kits
from hyperdrip.senders.kit import Kit, make_kit, require_mail_settings
from hyperdrip.unsubscribing import verify
from tests.factories import make_settings

KEY = "k" * 16
COMPLETE = {
    "MAIL_FROM": "Ada <ada@example.com>",
    "POSTAL_ADDRESS": "1 Main Street, Springfield",
    "SECRET_KEY": KEY,
    "PUBLIC_URL": "https://mail.example.com",
}
CLAIM = Claim(
    lead_id=7,
    run=1,
    number=2,
    envelope_id=9,
    token=1,
    attempts=1,
    day=date(2024, 1, 15),
    email="elif@example.org",
    name="Elif Aydin",
    lead_fields='{"company": "Northwind"}',
    campaign="trial",
    campaign_version=3,
    message_count=1,
    max_messages=2,
    first_claimed_at=datetime(2024, 1, 15, 9, 30, tzinfo=UTC),
)
TRIAL = Campaign(
    "trial",
    (
        Step(1, "One", "Hi {{ first_name }}"),
        Step(2, "Two for {{ fields.company }}", "Hi {{ first_name }}"),
    ),
)


class Shelf:
    """Campaigns to load, and how often each was."""

    def __init__(self, campaign: Campaign = TRIAL) -> None:
        self.campaign = campaign
        self.loaded: Counter[tuple[str, int]] = Counter()
        self.before: Callable[[], object] = lambda: None

    def load(self, name: str, version: int) -> Campaign:
        self.loaded[name, version] += 1
        self.before()
        return replace(self.campaign, name=name)


def kit_of(shelf: Shelf, **settings: str) -> Kit:
    return make_kit(make_settings("", **{**COMPLETE, **settings}), shelf.load, instance="1/2")


def test_a_message_is_the_same_bytes_at_every_attempt_and_has_its_date_and_its_token() -> None:
    mail = kit_of(Shelf()).compose(CLAIM)
    again = CLAIM._replace(attempts=4, token=9, envelope_id=12, day=date(2024, 1, 17))
    assert kit_of(Shelf()).compose(again) == mail
    message = message_from_bytes(mail.data, policy=policy.default)
    assert message["Date"].datetime == CLAIM.first_claimed_at
    assert message["Subject"] == "Two for Northwind"
    assert mail.message_id.startswith("<lead_7-1-2.")
    link = message["List-Unsubscribe"].strip("<>")
    assert verify(KEY, link.rpartition("/")[2]) == "lead_7-1-2"
    rendered = kit_of(Shelf()).render(CLAIM)
    for part in (rendered.text, rendered.html):
        assert link in part
        assert "1 Main Street" in part


def test_two_databases_and_two_trials_never_share_a_message_id() -> None:
    settings = make_settings("", **COMPLETE)
    found = [
        make_kit(settings, Shelf().load, instance=instance).compose(claim).message_id
        for instance in ("1/2", "1/3")
        for claim in (CLAIM, CLAIM._replace(trial="a1"), CLAIM._replace(trial="b2"))
    ]
    assert len(set(found)) == 6


def test_a_version_is_read_once_by_whichever_thread_comes_first() -> None:
    shelf = Shelf()
    kit = kit_of(shelf)
    together = Barrier(8)

    def write(number: int) -> str:
        together.wait()
        return kit.compose(CLAIM._replace(lead_id=number)).message_id

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(write, range(1, 9)))) == 8
    assert shelf.loaded == {("trial", 3): 1}


def test_only_so_many_versions_are_kept_and_those_in_use_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kits, "KEPT", 3)
    shelf = Shelf()
    kit = kit_of(shelf)
    for version in range(1, 10):
        kit.render(CLAIM._replace(campaign_version=1))
        kit.render(CLAIM._replace(campaign_version=version))
    assert shelf.loaded["trial", 1] == 1
    kit.render(CLAIM._replace(campaign_version=2))
    assert shelf.loaded["trial", 2] == 2


def test_a_database_that_is_lost_is_no_lead_s_fault_and_is_asked_again() -> None:
    shelf = Shelf()
    kit = kit_of(shelf)

    def fail() -> None:
        raise DatabaseUnavailable("the database was lost")

    shelf.before = fail
    with pytest.raises(DatabaseUnavailable):
        kit.compose(CLAIM)
    shelf.before = lambda: None
    assert kit.compose(CLAIM).rcpt_to == "elif@example.org"


@pytest.mark.parametrize(
    "campaign",
    [
        replace(TRIAL, mail_from="nobody"),
        replace(TRIAL, steps=(Step(1, "One", "{{ nothing_of_this_name }}"),)),
        replace(TRIAL, steps=TRIAL.steps[:1]),
        replace(TRIAL, steps=(*TRIAL.steps[:1], Step(2, "Two", "{{ fields.city }}"))),
    ],
)
def test_what_cannot_be_written_is_a_render_error_of_one_line(campaign: Campaign) -> None:
    with pytest.raises(RenderError) as refusal:
        kit_of(Shelf(campaign)).compose(CLAIM)
    assert "\n" not in str(refusal.value)


def test_no_sender_of_ones_own_is_a_mistake_of_the_settings() -> None:
    with pytest.raises(SettingsError, match="MAIL_FROM is empty"):
        kit_of(Shelf(), MAIL_FROM="").compose(CLAIM)
    own = replace(TRIAL, mail_from="Own <own@example.net>")
    assert kit_of(Shelf(own), MAIL_FROM="").compose(CLAIM).mail_from == "own@example.net"


# Settings


@pytest.mark.parametrize("missing", COMPLETE)
def test_each_setting_that_mail_needs_is_missed_in_a_line(missing: str) -> None:
    require_mail_settings(make_settings("", **COMPLETE))
    with pytest.raises(MissingSettingsError) as refusal:
        require_mail_settings(make_settings("", **{**COMPLETE, missing: ""}))
    (line,) = refusal.value.mistakes
    assert line.startswith(f"{missing} is empty; write ")
    assert refusal.value.exit_code == 2


def test_all_that_is_missing_is_named_at_once_and_one_way_out_is_enough() -> None:
    with pytest.raises(MissingSettingsError) as refusal:
        require_mail_settings(make_settings(""))
    names = [line.split()[0] for line in refusal.value.mistakes]
    assert names == ["MAIL_FROM", "POSTAL_ADDRESS", "SECRET_KEY", "PUBLIC_URL"]
    by_mail = {**COMPLETE, "PUBLIC_URL": "", "UNSUBSCRIBE_MAILTO": "out@example.com"}
    require_mail_settings(make_settings("", **by_mail))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAIL_FROM", "Ada"),
        ("MAIL_FROM", "Ada\r\nBcc: all@example.com <ada@example.com>"),
        ("REPLY_TO", "nobody"),
        ("POSTAL_ADDRESS", "x" * 2000),
        ("SECRET_KEY", "too-short"),
        ("SECRET_KEY", f"{KEY},too-short"),
        ("PUBLIC_URL", "http://mail.example.com"),
        ("PUBLIC_URL", "https://ada:password@mail.example.com"),
        ("PUBLIC_URL", "https://mail.example.com:99999"),
        ("PUBLIC_URL", "https:///path"),
        ("UNSUBSCRIBE_MAILTO", "not an address"),
    ],
)
def test_a_value_that_mail_cannot_take_is_refused_at_once(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=name) as refusal:
        require_mail_settings(make_settings("", **{**COMPLETE, name: value}))
    assert "too-short" not in str(refusal.value)
