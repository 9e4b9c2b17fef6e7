"""What `import`, `plan`, `quota set`, `replan`, `explain` and `status` print."""

import os
import pty
import re
import subprocess
import threading
from pathlib import Path

import psycopg
import pytest

from tests.acceptance.commands import HYPERDRIP, Commands
from tests.factories import add_leads


@pytest.fixture
def filled(commands: Commands, conn: psycopg.Connection) -> Commands:
    """Six leads with three messages each, two a day."""
    commands.within.run("quota", "set", "default", "2")
    add_leads(conn, 6, messages=3)
    return commands


def test_plan_answers_what_if_in_words_and_in_json(filled: Commands) -> None:
    days = filled.within.json("plan")
    assert [day["scheduled"] for day in days] == [2] * 9
    question = ("plan", "--add", "10", "--max-messages", "1")
    found = filled.within.json(*question)
    assert found["days"][:9] == days
    del found["days"]
    assert found == {
        "leads": 10,
        "messages": 10,
        "dailyMax": 2,
        "firstDay": "2024-01-24",
        "lastDay": "2024-01-28",
        "horizon": "2025-01-14",
        "fits": True,
        "dailyMaxThatFits": None,
    }
    assert filled.within.run(*question).out.endswith(
        "28 messages planned, until 2024-01-28\n"
        "10 more leads with 10 messages: from 2024-01-24 to 2024-01-28\n"
    )
    late = filled.within.run(*question, SCHEDULE_HORIZON_DAYS=10).out.splitlines()[-1]
    assert late == (
        "10 more leads with 10 messages: from 2024-01-24 to 2024-01-28, past the horizon"
        " 2024-01-25: refused; a daily maximum of 3 would fit"
    )
    assert filled.within.json("plan", "--daily-max", "6")["lastDay"] == "2024-01-23"
    assert filled.within.json("plan") == days
    months = filled.within.run("plan", "--add", "100").out  # too long to be shown by day
    assert re.search(r"^2024-02 +58 +58 +0 +0 ", months, re.MULTILINE)


def test_quota_set_says_first_what_moves_and_replan_brings_it_back(filled: Commands) -> None:
    dry = filled.within.run("quota", "set", "2024-01-15..2024-01-16", "0", "--dry-run")
    assert dry.err == "18 messages of 6 leads would move; the last one goes on 2024-01-25\n"
    assert dry.out == "2024-01-15..2024-01-16: at most 0; 18 messages would move\n"
    assert filled.within.json("plan")[0]["scheduled"] == 2
    done = filled.within.run("quota", "set", "2024-01-15..2024-01-16", "0")
    assert done.err.startswith("18 messages of 6 leads move; the last one goes on 2024-01-25\n")
    assert [day["scheduled"] for day in filled.within.json("plan")] == [0, 0] + [2] * 9

    back = filled.within.run("quota", "set", "2024-01-15..2024-01-16", "default")
    assert back.out == "2024-01-15..2024-01-16: the daily maximum again; 0 messages moved\n"
    assert back.err == "18 messages of 6 leads could go earlier: hyperdrip replan\n"
    assert filled.within.json("replan", "--dry-run") == {"moved": 18, "lastDay": "2024-01-23"}
    assert filled.within.run("replan").out == (
        "18 messages moved to earlier days; the last one goes on 2024-01-23\n"
    )
    assert filled.within.run("replan").out == "Nothing can go earlier\n"
    assert [day["scheduled"] for day in filled.within.json("plan")] == [2] * 9
    filled.assert_audit_ok()


def test_explain_and_status_say_what_decides(filled: Commands) -> None:
    assert filled.within.run("explain", "lead_1").out == (
        "lead_1: message 1 is due and no worker is alive: hyperdrip worker\n"
    )
    found = filled.within.json("explain", "3")
    assert found == {
        "lead": "lead_3",
        "rule": "not-due",
        "text": "message 1 is not due until 2024-01-18",
        "numbers": {"number": 1, "scheduledDate": "2024-01-18"},
    }
    screen = filled.within.run("status").out.splitlines()
    assert screen[:3] == [
        "2024-01-15 (UTC), test",
        "today:    0 sent, 2 to go, capacity 2",
        "planned:  next on 2024-01-16, last on 2024-01-23",
    ]
    loud = "no worker is alive and 2 messages are due today; to start one: hyperdrip worker"
    assert screen[-1] == f"WARNING: {loud}"
    found = filled.within.json("status")
    assert found["warnings"] == [loud]
    assert found["today"] == {
        "day": "2024-01-15",
        "capacity": 2,
        "scheduled": 2,
        "sent": 0,
        "free": 0,
    }
    assert (found["paused"], found["workers"], found["openDays"]) == (False, [], [])


def test_an_import_says_what_came_of_it(commands: Commands) -> None:
    path = commands.folder / "leads.csv"
    path.write_bytes("Vorname;Nachname;Mail\nZoë;M;z@example.com\nBen;O;ben\n".encode("cp1252"))
    mapping = ("--map", "name=Vorname+Nachname", "--map", "email=mail")
    dry = commands.within.run("import", "leads.csv", *mapping, "--dry-run", code=5)
    assert dry.out.splitlines()[0] == (
        "Dry run: 2 rows read, 1 lead added, 0 duplicates skipped, 1 rejected, planned from"
        " 2024-01-15 to 2024-01-19"
    )
    assert len(dry.out.splitlines()) == 3 + 5
    done = commands.within.run("import", "leads.csv", *mapping, "--errors", "bad.csv", code=5)
    assert done.err.splitlines() == [
        "read as cp1252",
        "separated by semicolon",
        "line 3: email='ben' is no e-mail address: An email address must have an @-sign",
        "error: 1 row of 'leads.csv' could not be taken, see 'bad.csv'; mend them and import again:"
        " what is there is skipped",
    ]
    found = commands.within.json("import", "leads.csv", *mapping, code=5)
    assert found == {
        "importId": 2,
        "read": 2,
        "added": 0,
        "updated": 0,
        "duplicates": 1,
        "rejected": 1,
        "firstDay": None,
        "lastDay": None,
        "suppressed": 0,
        "enrolled": 0,
    }
    assert commands.within.run("import", "undo", "1").out == (
        "Import 1 undone: 1 lead removed, 0 leads stopped that had a message already\n"
    )
    assert commands.within.json("import", "undo", "2") == {
        "importId": 2,
        "removed": 0,
        "stopped": 0,
    }


def test_a_progress_bar_at_a_terminal_knows_its_end(commands: Commands) -> None:
    rows = "".join(f"Lead {n},many{n}@example.com\n" for n in range(3000))
    (commands.folder / "many.csv").write_text(f"name,email\n{rows}")
    ours, theirs = pty.openpty()
    said: list[bytes] = []
    reader = threading.Thread(target=read_all, args=(ours, said))
    reader.start()
    done = subprocess.run(
        [HYPERDRIP, "import", Path("many.csv"), "--max-messages", "1"],
        env=commands.environment(TERM="xterm", COLUMNS=100),
        cwd=commands.folder,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        check=True,
    )
    os.close(theirs)
    reader.join()
    os.close(ours)
    assert done.stdout.startswith("Import 1: 3000 rows read, 3000 leads added")
    shown = b"".join(said).decode()
    assert "Planning" in shown
    assert "100%" in shown


def read_all(end: int, said: list[bytes]) -> None:
    try:
        while chunk := os.read(end, 1 << 16):
            said.append(chunk)
    except OSError:  # as Linux says that the other end is closed
        return
