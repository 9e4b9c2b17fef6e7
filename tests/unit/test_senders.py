"""The senders that deliver nothing."""

from datetime import UTC, date, datetime

import pytest

from hyperdrip.errors import SettingsError
from hyperdrip.models import Campaign, Claim
from hyperdrip.senders import Sent, open_sender
from hyperdrip.senders.kit import make_kit
from tests.factories import make_settings


def claim(lead_id: int) -> Claim:
    return Claim(
        lead_id=lead_id,
        run=1,
        number=2,
        envelope_id=lead_id,
        token=1,
        attempts=1,
        day=date(2024, 1, 15),
        email=f"lead{lead_id}@example.com",
        name=f"Lead {lead_id}",
        lead_fields="{}",
        campaign="default",
        campaign_version=1,
        message_count=1,
        max_messages=5,
        first_claimed_at=datetime(2024, 1, 15, 9, tzinfo=UTC),
    )


KIT = make_kit(make_settings(""), lambda name, _: Campaign(name, ()), instance="1/2")
CLAIMS = [claim(lead_id) for lead_id in range(1, 6)]


@pytest.mark.parametrize(("name", "is_quiet"), [("console", False), ("null", True)])
def test_a_sender_is_opened_by_its_name(name: str, *, is_quiet: bool) -> None:
    sender = open_sender(name, KIT)
    assert (sender.name, sender.is_quiet, sender.wave_size) == (name, is_quiet, 500)


@pytest.mark.parametrize("name", ["", "Console", "consol", "smtp://host"])
def test_a_sender_that_does_not_exist_is_refused_with_those_that_do(name: str) -> None:
    with pytest.raises(SettingsError, match=r"is not one of: .*console.*null") as refusal:
        open_sender(name, KIT)
    assert f"SENDER={name!r}" in str(refusal.value)
    assert refusal.value.exit_code == 2


@pytest.mark.parametrize("name", ["console", "null"])
def test_a_wave_is_sent_in_order(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    outcomes = list(open_sender(name, KIT).send_wave(CLAIMS, lambda _: True))
    assert outcomes == [(claim, Sent()) for claim in CLAIMS]
    # The worker's log line is the message; the sender itself says nothing.
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["console", "null"])
def test_leave_is_asked_right_before_each_hand_over(name: str) -> None:
    asked: list[Claim] = []

    def may_send(claim: Claim) -> bool:
        asked.append(claim)
        return True

    wave = open_sender(name, KIT).send_wave(CLAIMS, may_send)
    for number, (claim, _) in enumerate(wave, start=1):
        assert asked == CLAIMS[:number]
        assert claim is asked[-1]


@pytest.mark.parametrize("name", ["console", "null"])
@pytest.mark.parametrize("allowed", range(5))
def test_at_the_first_no_that_message_and_all_behind_it_stay(name: str, allowed: int) -> None:
    asked: list[Claim] = []

    def may_send(claim: Claim) -> bool:
        asked.append(claim)
        return len(asked) <= allowed

    sent = [claim for claim, _ in open_sender(name, KIT).send_wave(CLAIMS, may_send)]
    assert sent == CLAIMS[:allowed]
    assert asked == CLAIMS[: allowed + 1]


def test_a_message_has_the_same_key_at_every_attempt() -> None:
    assert claim(7).message_key == "lead_7-1-2"
