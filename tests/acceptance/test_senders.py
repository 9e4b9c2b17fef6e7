"""Senders of other packages, and trying out one step: installed packages, and real processes."""

import json
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.acceptance.commands import Commands, wait_until
from tests.factories import add_leads, count_states

EXAMPLE = Path(__file__).parents[2] / "examples" / "sender-file"
AT_ONCE = ("worker", "--drain", "--message-delay", "0", "--sender")


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages with the example in it, as `pip install` would put it there."""
    built = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(built)],
        cwd=EXAMPLE,
        check=True,
        capture_output=True,
    )
    folder = tmp_path_factory.mktemp("packages")
    (wheel,) = built.iterdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def install(folder: Path, package: str, code: str, **senders: str) -> Path:
    """Put a package of one module into `folder`: sender name -> what its entry point names."""
    folder.mkdir(exist_ok=True)
    module = package.replace("-", "_")
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = "".join(f"{name} = {module}:{value}\n" for name, value in senders.items())
    (info / "entry_points.txt").write_text(f"[hyperdrip.senders]\n{lines}")
    return folder


def outbox(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "outbox.jsonl").read_text().splitlines()]


def test_the_example_sends_what_was_written_and_is_listed_with_the_others(
    commands: Commands, conn: psycopg.Connection, tmp_path: Path, example: Path
) -> None:
    add_leads(conn, 3, messages=2)
    with_it = {
        "PYTHONPATH": example,
        "SECRET_KEY": "k" * 32,
        "PUBLIC_URL": "https://mail.example.com",
    }
    done = commands.json(*AT_ONCE, "file", **with_it)
    assert (done["sent"], done["waiting"]) == (3, 0)
    found = outbox(tmp_path)
    assert [message["id"] for message in found] == [f"lead_{n}-1-1" for n in (1, 2, 3)]
    assert found[0]["subject"] == "A message for Lead"
    for part in ("text", "html"):
        assert "https://mail.example.com/unsubscribe/lead_1-1-1." in found[0][part]
    shown = commands.within.json("messages", "show", "lead_1", "1")
    assert (shown["sender"], shown["providerId"]) == ("file", "outbox.jsonl")

    help_text = commands.run("worker", "--help", **with_it).out
    assert "How messages leave: console, file, null, smtp." in " ".join(
        help_text.replace("│", " ").split()
    )
    completed = commands.run(
        _HYPERDRIP_COMPLETE="complete_bash",
        COMP_WORDS="hyperdrip worker --sender ",
        COMP_CWORD="3",
        **with_it,
    )
    assert completed.out.split() == ["console", "file", "null", "smtp"]
    unknown = commands.run(*AT_ONCE, "smoke", code=2, **with_it)
    assert unknown.err == "error: SENDER='smoke' is not one of: console, file, null, smtp\n"


SENDER = """
class Sender:
    name, wave_size, is_quiet = "own", 10, False
    def send_wave(self, claims, may_send):
        yield from ()
"""
BROKEN = [
    ("import nothing_of_this_name", "'own' of the package a-b 1.0 cannot be imported: Mod"),
    ("raise SystemExit('bye')", "'own' of the package a-b 1.0 cannot be imported: SystemE"),
    ("other = 1", "cannot be imported: AttributeError: "),
    ("it = 1", "cannot be made: TypeError: 'int' object is not callable"),
    ("def it(kit): raise ValueError('two\\nlines')", "cannot be made: ValueError: two lines"),
    ("def it(kit): return None", "'own' of the package a-b 1.0 is none: its name is None"),
    (f"{SENDER}\n    wave_size = 0\ndef it(kit): return Sender()", "its wave_size is 0"),
    (f"{SENDER}\n    send_wave = 1\ndef it(kit): return Sender()", "it has no send_wave"),
    (
        "from hyperdrip.senders.kit import require_mail_settings\n"
        "def it(kit): require_mail_settings(kit.settings)",
        "MAIL_FROM is empty; ",
    ),
]


@pytest.mark.parametrize(("code", "said"), BROKEN)
def test_a_plug_in_that_cannot_be_had_is_told_before_anything_is_claimed(
    commands: Commands,
    conn: psycopg.Connection,
    tmp_path: Path,
    code: str,
    said: str,
) -> None:
    add_leads(conn, 1)
    path = install(tmp_path / "packages", "a-b", code, own="it")
    refused = commands.run(*AT_ONCE, "own", code=2, PYTHONPATH=path)
    lines = refused.err.splitlines()
    assert said in lines[0]
    assert all(line.startswith("error: ") for line in lines)
    assert len(lines) == (4 if "MAIL_FROM" in said else 1)
    assert count_states(conn) == {"planned": 5}


def test_a_plug_in_takes_no_built_in_name_and_two_cannot_share_one(
    commands: Commands, tmp_path: Path
) -> None:
    path = install(tmp_path / "packages", "thief", "def it(kit): ...", console="it", own="it")
    install(path, "a-b", "def it(kit): ...", own="it")
    stolen = commands.run("worker", "--drain", code=2, PYTHONPATH=path)
    assert stolen.err == (
        "error: SENDER='console' is built in, and the package thief 1.0 has a sender of that name,"
        " too; uninstall it\n"
    )
    shared = commands.run(*AT_ONCE, "own", code=2, PYTHONPATH=path)
    assert shared.err == (
        "error: SENDER='own' is a sender of the package a-b 1.0 and of the package thief 1.0;"
        " uninstall one of them\n"
    )
    assert commands.run(*AT_ONCE, "null", PYTHONPATH=path).code == 0


def test_a_worker_waits_while_its_sender_takes_nothing_and_a_drain_gives_up(
    commands: Commands, conn: psycopg.Connection, tmp_path: Path, example: Path
) -> None:
    add_leads(conn, 2, messages=1)
    box = tmp_path / "box"
    box.mkdir()
    with_it = {"PYTHONPATH": example, "OUTBOX": "box"}
    drained = commands.run(*AT_ONCE, "file", "--json", code=1, **with_it)
    assert (drained.json["sent"], drained.json["waiting"]) == (0, 2)
    said = [line for line in drained.err.splitlines() if "takes" in line]
    why = "box cannot be opened: Is a directory"
    assert said == [
        f"The sender file takes nothing now: {why}; next try in 1 s",
        f"The sender file takes nothing now: {why}; next try in 2 s",
        f"error: the sender file takes nothing: {why}; gave up with 2 waiting",
    ]

    arguments = ("worker", "--message-delay", "0", "--poll-interval", "50", "--sender", "file")
    with commands.start(*arguments, **with_it) as worker:
        worker.wait_for_line("The sender file takes nothing now: .*")
        worker.send(signal.SIGTERM)
        ended = worker.wait(seconds=20)
    assert (ended.code, ended.out) == (0, "0 sent, 2 waiting\n")
    assert count_states(conn) == {"planned": 2}
    with commands.start(*arguments, **with_it) as worker:
        worker.wait_for_line("The sender file takes nothing now: .*")
        box.rmdir()
        worker.wait_for_line("The sender file takes messages again")
        wait_until(lambda: count_states(conn) == {"sent": 2}, "both sent")
        worker.send(signal.SIGTERM)
        assert worker.wait().code == 0
    commands.assert_audit_ok()


# Trying out a step

TEST = ("campaigns", "test", "1", "--to", "Me@Example.com", "--campaign", "default")


def test_a_step_is_sent_for_real_and_neither_the_ledger_nor_the_quota_knows_of_it(
    commands: Commands, conn: psycopg.Connection, tmp_path: Path, example: Path
) -> None:
    add_leads(conn, 1, messages=1)
    with_it = {
        "PYTHONPATH": example,
        "SECRET_KEY": "k" * 32,
        "PUBLIC_URL": "https://mail.example.com",
    }
    before = conn.execute("select * from hyperdrip.quota_day order by day").fetchall()
    sent = commands.run(*TEST, "--sender", "file", **with_it)
    assert sent.out == (
        "Sent step 1 of default version 1 to Me@example.com through file (outbox.jsonl)\n"
    )
    done = commands.json(*TEST, "--sender", "file", "--lead", "lead_1", **with_it)
    assert done == {
        "campaign": "default",
        "version": 1,
        "number": 1,
        "lead": "lead_1",
        "to": "Me@example.com",
        "sender": "file",
        "outcome": "sent",
        "reason": None,
        "providerId": "outbox.jsonl",
    }
    made_up, of_lead = outbox(tmp_path)
    assert made_up["subject"] == "[test] A message for Ada"
    assert of_lead["subject"] == "[test] A message for Lead"
    assert of_lead["to"] == "Me@example.com"
    # Whatever is keyed by it, such as a Message-ID, is no other message's.
    ids = {made_up["id"], of_lead["id"]}
    assert len(ids) == 2
    assert all(key.startswith("test-") for key in ids)
    assert f"/unsubscribe/{made_up['id']}." in made_up["text"]
    assert conn.execute("select * from hyperdrip.quota_day order by day").fetchall() == before
    assert count_states(conn) == {"planned": 1}
    assert commands.within.json("leads", "show", "lead_1")["messageCount"] == 0


def test_the_console_shows_the_text_and_what_was_not_taken_ends_with_1(
    commands: Commands, conn: psycopg.Connection, tmp_path: Path, example: Path
) -> None:
    within = commands.within
    shown = within.run(*TEST)
    assert shown.out.startswith("Subject: [test] A message for Ada\n\nHi Ada,\n\n")
    assert shown.err == "The console sender delivers nothing; --sender S takes another one\n"
    (tmp_path / "box").mkdir()
    refused = commands.run(
        *TEST, "--sender", "file", "--json", code=1, PYTHONPATH=example, OUTBOX="box"
    )
    assert (refused.json["outcome"], refused.json["reason"]) == (
        "refused",
        "box cannot be opened: Is a directory",
    )
    assert refused.err == (
        "error: the sender file did not take step 1 of default version 1 to Me@example.com:"
        " box cannot be opened: Is a directory\n"
    )
    assert "no e-mail address" in within.run(*TEST, "--to", "me@", code=5).err
    assert "no step 0" in within.run("campaigns", "test", "0", *TEST[3:], code=3).err
    conn.execute("insert into hyperdrip.suppression values ('me@example.com', 'by hand')")
    suppressed = within.run(*TEST, code=5)
    assert suppressed.err == (
        "error: 'Me@example.com' is suppressed (by hand) and never written to\n"
    )
