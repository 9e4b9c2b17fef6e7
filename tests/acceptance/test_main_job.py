"""The main job, as a person does it: leads in, a day for each message, sent once, proved."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import psycopg
import pytest

from tests.acceptance.commands import (
    HYPERDRIP,
    Commands,
    commands_on,
    list_processes_of,
    wait_until,
)

ROOT = Path(__file__).parents[2]
MONDAY = date(2024, 1, 15)


@pytest.mark.slow
def test_four_leads_under_a_maximum_of_three_get_their_days_and_are_sent_on_them(
    embedded: Commands,
) -> None:
    embedded.settings |= {"DAILY_MAX": 3, "WORKER_MESSAGE_DELAY": 0}
    first_five = [f"2024-01-{day}" for day in range(15, 20)]
    next_five = [f"2024-01-{day}" for day in range(20, 25)]
    for number in range(1, 5):
        lead = embedded.json(
            "add-lead", "--name", f"N{number}", "--email", f"n{number}@example.com"
        )
        days = [message["scheduledDate"] for message in lead["messages"]]
        assert days == (first_five if number < 4 else next_five)
    embedded.assert_audit_ok()

    sent = []
    for day in (MONDAY + timedelta(days=n) for n in range(10)):
        now = f"{day}T09:00:00Z"
        sent.append(embedded.json("worker", "--drain", HYPERDRIP_NOW=now)["sent"])
        embedded.assert_audit_ok(HYPERDRIP_NOW=now)

    assert sent == [3, 3, 3, 3, 3, 1, 1, 1, 1, 1]
    leads = embedded.within.json("leads", "list", HYPERDRIP_NOW="2024-01-24T10:00:00Z")
    assert [(lead["status"], lead["messageCount"]) for lead in leads] == [("COMPLETED", 5)] * 4


def test_names_body_and_log_lines_are_letter_for_letter(
    commands: Commands, conn: psycopg.Connection
) -> None:
    commands.within.run("add-lead", "--name", "User", "--email", "user@example.com")

    queues = commands.within.json("queues", "show")
    assert [queue["queue"] for queue in queues] == [
        f"test-drip-messages-2024-01-{day}" for day in range(15, 20)
    ]
    [envelope] = commands.within.json("queues", "peek", "2024-01-15")
    body = {
        "leadId": "lead_1",
        "email": "user@example.com",
        "messageNumber": 1,
        "scheduledDate": "2024-01-15",
    }
    assert envelope["message"] == body
    assert conn.execute(
        'select message from pgmq."q_test-drip-messages-2024-01-15"'
    ).fetchall() == [(body,)]

    drained = commands.run("worker", "--drain", "--message-delay", "0")
    assert drained.err.splitlines() == [
        "Starting drip worker...",
        "The console sender delivers nothing and marks messages as sent",
        "Drip worker started - polling every 5000ms",
        "1 due",
        "Sending message #1 to user@example.com (scheduled for 2024-01-15)",
    ]
    assert drained.out == "1 sent\n"

    for day in range(16, 20):
        drained = commands.within.run(
            "worker", "--drain", "--message-delay", "0", HYPERDRIP_NOW=f"2024-01-{day}T09:00:00Z"
        )
    assert drained.err.splitlines()[-2:] == [
        "Sending message #5 to user@example.com (scheduled for 2024-01-19)",
        "Lead user@example.com completed drip campaign (5/5 messages)",
    ]


def test_production_queues_have_no_prefix(new_database: Callable[..., str], tmp_path: Path) -> None:
    dsn = new_database(environment="production")
    commands = commands_on(dsn, tmp_path, HYPERDRIP_ENV=None, HYPERDRIP_NOW=None).within
    lead = commands.json("add-lead", "--name", "A", "--email", "a@example.com")
    first_day = lead["messages"][0]["scheduledDate"]
    assert commands.json("queues", "show")[0]["queue"] == f"drip-messages-{first_day}"


@pytest.mark.slow
@pytest.mark.long
def test_the_example_uses_only_a_database_of_its_own_and_leaves_nothing_behind(
    commands: Commands, dsn: str, tmp_path: Path
) -> None:
    commands.within.run("add-lead", "--name", "Theirs", "--email", "theirs@example.com")
    before = commands.within.run("messages", "list", "--json").out
    hostile = {
        "DATABASE_URL": dsn,
        "SENDER": "smtp",
        "DAILY_MAX": "0",
        "TIMEZONE": "Nowhere",
        "HYPERDRIP_HOME": str(tmp_path / "theirs"),
        "HYPERDRIP_ENV": "test",
        "LOG_FORMAT": "xml",
        "HYPERDRIP_NOW": "yesterday",
    }
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in hostile.items()))
    shutil.copy(tmp_path / ".env", tmp_path / ".env.test")
    path = f"{HYPERDRIP.parent}{os.pathsep}{os.defpath}"

    # -x: the trace says where its home is.
    done = subprocess.run(
        ["sh", "-x", ROOT / "examples" / "main-job.sh"],
        env={"PATH": path, "HOME": str(tmp_path), "TMPDIR": str(tmp_path), **hostile},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "12 leads added" in done.stdout
    assert "BROKEN" not in done.stdout
    assert done.stdout.count("\nok ") == 8
    assert done.stdout.splitlines()[-1].startswith("Yours: ")
    [home] = re.findall(r"^\+ home=(/tmp/\S+)$", done.stderr, re.MULTILINE)
    assert not Path(home).exists()
    wait_until(lambda: not list_processes_of(home), "its server and janitor have ended")
    assert commands.within.run("messages", "list", "--json", cwd=tmp_path.parent).out == before
    assert {path.name for path in tmp_path.iterdir()} == {".env", ".env.test"}
