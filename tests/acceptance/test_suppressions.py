"""`suppressions` and `unsubscribe`: what they print, and lists that come in while workers send."""

import re
import signal
import subprocess
import time
from contextlib import ExitStack

import psycopg
import pytest

from hyperdrip import instance as instances
from hyperdrip.unsubscribing import sign
from tests.acceptance.commands import HYPERDRIP, Commands, wait_until
from tests.factories import Watch, add_leads, assert_audit_ok, count_states

KEY = "first-key-0123456789"
SENT = re.compile(r"^Sending message #1 to (\S+) ", re.MULTILINE)


def test_what_the_commands_say(commands: Commands) -> None:
    one = commands.within
    one.run("add-lead", "--name", "Ada", "--email", "ada@example.com")
    assert one.run("suppressions", "list").out == "No suppressions\n"
    add = ("suppressions", "add", "ADA@example.com", "eve@example.org", "--reason", "by phone")
    said = "2 addresses suppressed; 1 lead stopped, 5 messages cancelled\n"
    assert one.run(*add, "--dry-run").out == f"Dry run: {said}"
    assert one.run("suppressions", "list").out == "No suppressions\n"
    assert one.run(*add).out == said
    assert one.run(*add).out == "0 addresses suppressed; 2 known already\n"
    listed = one.run("suppressions", "list", "--search", "EVE").out
    assert re.search(r"\neve@example.org +by phone +2024-01-15 09:00:0\dZ\n$", listed)
    assert "ada" not in listed
    assert one.run("suppressions", "list", "--limit", "1").out.count("by phone") == 1
    why = one.run("explain", "ada@example.com").out
    assert why == "lead_1: it was stopped: suppressed: by phone\n"
    refused = one.run("add-lead", "--name", "E", "--email", "Eve@example.org", code=5)
    assert "is suppressed (by phone)" in refused.err

    removed = one.run("suppressions", "remove", "Ada@EXAMPLE.com")
    assert removed.out == "Ada@example.com is not suppressed any more (it was: by phone)\n"
    assert removed.err.startswith("This resumes nobody; to begin again with its lead: ")
    assert one.run("suppressions", "remove", "eve@example.org", "-q").err == ""
    assert one.json("leads", "show", "1")["statusReason"] == "suppressed: by phone"
    assert one.run("leads", "enroll", "1").out.startswith("Enrolled 1 lead; 5 messages planned")


def test_an_unsubscribe_by_token_or_by_lead_says_once_what_it_did(commands: Commands) -> None:
    one = Commands(commands.folder, **{**commands.settings, "SECRET_KEY": KEY}).within
    for name in ("ada", "ben"):
        one.run("add-lead", "--name", name, "--email", f"{name}@example.com")
    token = sign(KEY, "lead_1-1-1")
    assert one.run("unsubscribe", token).out == "lead_1 unsubscribed: 5 messages cancelled\n"
    # As it stands in a mail, or as a mail program fills it in.
    for whole in (token, f"https://m.example.com/unsubscribe/{token}", f"unsubscribe {token}"):
        assert one.run("unsubscribe", whole).out == "lead_1 had unsubscribed already\n"
    assert list(one.json("unsubscribe", "BEN@example.com").items()) == [
        ("lead", "lead_2"),
        ("new", True),
        ("cancelled", 5),
    ]
    assert one.json("unsubscribe", "lead_2") == {"lead": "lead_2", "new": False, "cancelled": 0}
    for forged in (token[:-1], "lead_1-1-1", sign("another-key-01234567", "lead_1-1-1"), "x"):
        refused = one.run("unsubscribe", forged, code=5)
        assert refused.err == (
            "error: this is no unsubscribe token that SECRET_KEY has signed; look whether it is"
            " whole\n"
        )
        assert refused.out == ""
    unknown = one.run("unsubscribe", "eve@example.com", code=3)
    assert "hyperdrip suppressions add ADDRESS" in unknown.err
    one.run("leads", "erase", "1", "--yes")
    assert one.run("unsubscribe", token).out == "lead_1 had unsubscribed already\n"
    refused = commands.within.run("unsubscribe", token, code=2)
    assert refused.err.startswith("error: SECRET_KEY is empty; ")


def test_a_list_comes_in_from_a_file_or_a_pipe_and_lines_without_an_address_are_named(
    commands: Commands, conn: psycopg.Connection
) -> None:
    one = commands.within
    one.run("add-lead", "--name", "Ada", "--email", "ada@example.com")
    lines = ["Why;E-Mail", "a;ADA@example.com", "b;nobody", "c;", "d;eve@example.org"]
    (commands.folder / "gone.csv").write_text("\n".join(lines) + "\n")
    words = ("suppressions", "import", "gone.csv", "--reason", "old list")
    dry = one.run(*words, "--dry-run", "--json", code=5)
    assert conn.execute("select count(*) from hyperdrip.suppression").fetchone() == (0,)
    done = one.run(*words, "--json", code=5)
    assert done.err == dry.err
    assert {**dry.json, "dryRun": False} == done.json
    assert list(done.json.items()) == [
        ("read", 4),
        ("added", 2),
        ("known", 0),
        ("rejected", 2),
        ("stopped", ["lead_1"]),
        ("cancelled", 5),
        ("dryRun", False),
    ]
    assert done.err.splitlines() == [
        "separated by semicolon",
        *(line for line in done.err.splitlines() if line.startswith(("line 3: ", "line 4: "))),
        "error: 2 lines of 'gone.csv' could not be taken; mend and import again: what is there"
        " stays as it is",
    ]
    assert "email='nobody' is no e-mail address" in done.err

    piped = subprocess.run(
        [HYPERDRIP, "suppressions", "import", "-"],
        env=commands.environment("suppressions", "import"),
        cwd=commands.folder,
        input="zoë@bücher.example\nada@example.com\n",
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert piped.stdout == "1 address suppressed; 1 known already\n"
    assert piped.stderr == ""
    commands.assert_audit_ok()


@pytest.mark.slow
@pytest.mark.long
def test_100_000_addresses_are_suppressed_in_seconds(
    commands: Commands, conn: psycopg.Connection
) -> None:
    instances.set_daily_max(conn, 5_000)
    add_leads(conn, 5_000, messages=3)
    emails = [email for (email,) in conn.execute("select email from hyperdrip.lead")]
    lines = [*emails, *(f"gone{number}@example.net" for number in range(95_000))]
    (commands.folder / "gone.txt").write_text("\n".join(lines))
    began = time.monotonic()
    done = commands.json("suppressions", "import", "gone.txt")
    took = time.monotonic() - began
    assert (done["added"], len(done["stopped"]), done["cancelled"]) == (100_000, 5_000, 15_000)
    # About 5 s on a slow machine with two cores.
    assert took < 30
    assert_audit_ok(conn)


@pytest.mark.slow
def test_a_list_that_comes_in_while_4_workers_send_wins_from_its_commit_on(
    commands: Commands, conn: psycopg.Connection, no_deadlock: Watch
) -> None:
    instances.set_daily_max(conn, 3_000)
    ids = add_leads(conn, 3_000, messages=2).lead_ids
    emails = dict(conn.execute("select id, email from hyperdrip.lead").fetchall())
    # Workers come from one end, the lists from the other.
    lists = [ids[place : place + 250] for place in range(len(ids) - 250, -1, -250)]
    in_time: set[int] = set()
    with no_deadlock(), ExitStack() as stack:
        commands.within.run("pause")
        workers = [
            stack.enter_context(
                # One by one: slow enough for lists to come in between.
                commands.start("worker", "--poll-interval", "20", "--message-delay", "1")
            )
            for _ in range(4)
        ]
        wait_until(lambda: commands.within.json("db", "status")["liveWorkers"] == 4, "all 4 live")
        commands.within.run("resume")
        for number, chosen in enumerate(lists):
            file = commands.folder / f"{number}.txt"
            file.write_text("\n".join(emails[lead_id] for lead_id in chosen))
            commands.within.run("suppressions", "import", file.name)
            # The moment it is committed, a message was claimed already or never will be.
            rows = conn.execute(
                "select lead_id from hyperdrip.message"
                " where lead_id = any(%s) and number = 1 and state = 'cancelled'",
                [list(chosen)],
            )
            in_time.update(lead_id for (lead_id,) in rows)
        wait_until(lambda: not {"planned", "sending"} & count_states(conn).keys(), "all settled")
        for worker in workers:
            worker.send(signal.SIGTERM)
            assert worker.wait().code == 0
        sent = [email for worker in workers for email in SENT.findall(worker.err)]
    assert len(sent) == len(set(sent))
    assert in_time, "nobody was ever in time"
    assert sent, "nothing was ever claimed"
    assert not {emails[lead_id] for lead_id in in_time} & set(sent)
    assert len(in_time) + len(sent) == len(ids)
    row = conn.execute("select sum(sent), sum(reserved) from hyperdrip.quota_day").fetchone()
    assert row == (len(sent), 0)
    assert_audit_ok(conn)
