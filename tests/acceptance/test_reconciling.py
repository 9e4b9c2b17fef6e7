"""`hyperdrip reconcile`: what it says, and what it refuses."""

from typing import Any

import psycopg
import pytest

from tests.acceptance.commands import Commands
from tests.factories import add_leads

pytestmark = pytest.mark.usefixtures("within_this_process")


@pytest.fixture
def unknown(commands: Commands, conn: psycopg.Connection[Any]) -> Commands:
    """Two leads whose only message went through the console."""
    add_leads(conn, 2, messages=1)
    commands.run("worker", "--drain", "--message-delay", "0")
    conn.execute("update hyperdrip.message set state = 'unknown'")
    return commands


def test_it_says_how_many_there_are_and_asks_before_it_does_anything(unknown: Commands) -> None:
    assert unknown.run("reconcile").out.startswith("2 messages of 2 leads unknown; settle with")
    refused = unknown.run("reconcile", "--all", "--sent", code=2)
    assert "to say it: --yes" in refused.err
    assert len(unknown.json("messages", "list", "--state", "unknown")) == 2


def test_one_message_a_list_and_all_can_be_settled(unknown: Commands) -> None:
    (unknown.folder / "seen.txt").write_text("# from the provider\nlead_2-1-1\nlead_9-1-1\n")
    said = unknown.run("reconcile", "--from", "seen.txt", "--sent", "--yes")
    assert said.out == "1 messages of 1 leads were marked as sent\n"
    assert said.err == "1 of the messages in seen.txt are not to be settled, and stay as they are\n"
    dry = unknown.json("reconcile", "lead_1", "1", "--resend", "--dry-run")
    assert (dry["messages"], dry["dryRun"], dry["firstDay"]) == (1, True, "2024-01-15")
    unknown.run("reconcile", "--all", "--resend", "--yes")
    assert unknown.json("messages", "list", "--state", "unknown") == []
    unknown.assert_audit_ok()


def test_what_cannot_be_sent_again_is_left_out_until_it_is_cancelled(
    unknown: Commands, conn: psycopg.Connection[Any]
) -> None:
    conn.execute("update hyperdrip.lead set status = 'STOPPED' where id = 2")
    said = unknown.run("reconcile", "--all", "--resend", "--yes")
    assert said.out.endswith("; 1 left out\n")
    assert said.err == "left out: message 1 of lead_2: its lead is STOPPED\n"
    assert unknown.json("reconcile", "--all", "--cancel", "--yes")["messages"] == 1
    assert unknown.json("messages", "show", "2", "1")["state"] == "cancelled"
    assert unknown.json("messages", "list", "--state", "unknown") == []
    unknown.assert_audit_ok()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--sent",), 2, "say which"),
        (("--all", "--sent", "--resend"), 2, "--sent and --resend exclude each other"),
        (("--all", "--cancel", "--resend"), 2, "--resend and --cancel exclude each other"),
        (("--before", "yesterday", "--sent"), 2, "no day such as"),
        (("lead_99", "--sent"), 3, "lead_99"),
        (("--from", "nothing.txt", "--sent"), 5, "cannot be read"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    commands: Commands, arguments: tuple[str, ...], code: int, words: str
) -> None:
    ended = commands.run("reconcile", *arguments, code=code)
    assert words in ended.err
    assert len(ended.err.splitlines()) == 1
