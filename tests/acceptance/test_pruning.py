"""`hyperdrip queues prune`."""

import re

import pytest

from tests.acceptance.commands import Commands
from tests.acceptance.test_errors import assert_one_line

pytestmark = pytest.mark.usefixtures("within_this_process")
LATER = "2024-04-20T09:00:00Z"


@pytest.fixture
def old(commands: Commands) -> Commands:
    """Commands in April, with one lead whose two messages were sent in January."""
    commands.settings = {**commands.settings, "SENDER": "null", "WORKER_MESSAGE_DELAY": 0}
    commands.run("add-lead", "--name", "A", "--email", "a@example.com", "--max-messages", "2")
    for day in ("15", "16"):
        commands.run("worker", "--drain", HYPERDRIP_NOW=f"2024-01-{day}T09:00:00Z")
    commands.settings = {**commands.settings, "HYPERDRIP_NOW": LATER}
    return commands


def test_prune_says_what_it_drops(old: Commands) -> None:
    first, second = (f"test-drip-messages-2024-01-{day}" for day in (15, 16))
    would = old.json("queues", "prune", "--older-than", "90", "--dry-run")
    assert would == {
        "dryRun": True,
        "dropped": [{"queue": first, "day": "2024-01-15", "archived": 1}],
        "kept": [
            {
                "queue": second,
                "day": "2024-01-16",
                "reason": "its day is still open; a worker or hyperdrip rollover sees to it",
            }
        ],
        "deleted": 0,
    }
    old.run("rollover")
    assert old.run("queues", "prune", "--older-than", "95").out == (
        f"Dropped {first} with 1 archived envelope\n"
        "1 queue dropped, 0 kept; 0 archived envelopes of other queues deleted\n"
    )
    assert old.json("queues", "prune", "--older-than", "90")["dropped"][0]["queue"] == second
    assert old.json("queues", "show", "--all") == []
    assert "no queue" in old.run("queues", "peek", "2024-01-15", code=3).err
    assert len(old.json("messages", "list")) == 2
    old.assert_audit_ok()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "missing option '--older-than'"),
        (["--older-than", "x"], 2, "'x' is no whole number"),
        (["--older-than", "-1"], 5, "older-than=-1 is not a number of days from 0 to 36500"),
        (["--older-than", "999999999999"], 5, "is not a number of days from 0 to 36500"),
    ],
)
def test_days_that_cannot_be_are_refused(
    commands: Commands, arguments: list[str], code: int, said: str
) -> None:
    ended = commands.run("queues", "prune", *arguments, code=code)
    assert ended.out == ""
    assert_one_line(ended, f".*{re.escape(said)}.*")
