"""`hyperdrip db`: migrate, status, psql, reset."""

import contextlib
import os
import pty
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.acceptance.commands import HYPERDRIP, Commands, commands_on, wait_until

PASSWORD = "pa55-never-shown"


@pytest.fixture
def name(dsn: str) -> str:
    """The name of the fresh database."""
    return str(conninfo_to_dict(dsn)["dbname"])


def test_migrate_makes_an_empty_database_usable_and_status_says_what_is_there(
    new_database: Callable[..., str], tmp_path: Path
) -> None:
    commands = commands_on(
        new_database(is_migrated=False), tmp_path, TIMEZONE="Asia/Tokyo", DAILY_MAX=42
    )
    before = commands.within.json("db", "status")
    assert before["applied"] == []
    assert before["pending"] == [
        "0001_schema",
        "0002_import",
        "0003_add_lead",
        "0004_receipt",
        "0005_roles",
        "0006_hashed_suppressions",
        "0007_messages_per_step",
        "0008_first_claim",
        "0009_domain_pace",
        "0010_unsubscribed",
        "0011_room_for_updates",
        "0012_phone_index",
        "0013_less_to_write",
    ]
    assert before["environment"] is None

    at_once = [threading.Thread(target=commands.run, args=("db", "migrate")) for _ in range(3)]
    for thread in at_once:
        thread.start()
    for thread in at_once:
        thread.join()

    assert commands.run("db", "migrate").out == "Up to date\n"
    after = commands.within.json("db", "status")
    assert after["pending"] == []
    assert "0001_schema" in after["applied"]
    assert (after["environment"], after["timeZone"], after["dailyMax"], after["paused"]) == (
        *("test", "Asia/Tokyo", 42, False),
    )
    commands.within.run("add-lead", "--name", "A", "--email", "a@example.com")
    commands.assert_audit_ok()


def test_psql_runs_on_the_database_and_passes_its_exit_code_on(
    commands: Commands, name: str
) -> None:
    select = commands.run("db", "psql", "--", "-Atc", "select current_database()")
    assert select.out == f"{name}\n"
    assert commands.run("db", "psql", "--", "-c", "no sql", code=1).err.startswith("ERROR:")
    broken = commands.run(
        "db", "psql", "--", "-v", "ON_ERROR_STOP=1", "-c", "select 1", "-f", "gone.sql", code=1
    )
    assert "gone.sql" in broken.err


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="this system has no /proc")
def test_psql_shows_no_password_in_the_list_of_processes(dsn: str, tmp_path: Path) -> None:
    password = conninfo_to_dict(dsn).get("password") or PASSWORD
    commands = commands_on(make_conninfo(dsn, password=password), tmp_path)
    with subprocess.Popen(
        [HYPERDRIP, "db", "psql", "--", "-At"],
        env=commands.environment(),
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"\\! echo through $PGPASSWORD\n")
        process.stdin.flush()
        answer = process.stdout.readline().decode()
        [child] = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        lines = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in (process.pid, child)]
        process.communicate(b"\\q\n")
    assert answer == f"through {password}\n"
    assert all(b"psql" in line for line in lines)
    assert not any(password.encode() in line for line in lines)
    assert process.returncode == 0


def test_ctrl_c_in_psql_is_left_to_psql(commands: Commands, conn: psycopg.Connection) -> None:
    sleeping = "select pg_sleep(60)"
    running_query = "select from pg_stat_activity where datname = current_database() and query = %s"
    with commands.start("db", "psql", "--", "-c", sleeping) as running:
        wait_until(lambda: conn.execute(running_query, [sleeping]).fetchall(), "psql is at it")
        os.killpg(running.pid, signal.SIGINT)
        ended = running.wait()
    assert ended.code == 1
    assert "canceling statement due to user request" in ended.err


def test_reset_drops_everything_once_the_name_is_said(commands: Commands, name: str) -> None:
    commands.within.run("add-lead", "--name", "A", "--email", "a@example.com")
    commands.within.run("quota", "set", "default", "7")
    refused = commands.run("db", "reset", "--confirm", name.upper(), code=2)
    assert refused.err.endswith("is not the database's name; nothing was dropped\n")
    assert len(commands.within.json("leads", "list")) == 1

    assert commands.run("db", "reset", "--confirm", name).out == f"Reset {name}\n"
    assert commands.within.json("leads", "list") == []
    assert commands.within.json("queues", "show", "--all") == []
    assert commands.within.json("quota", "today")["dailyMax"] == 100
    assert commands.json("add-lead", "--name", "A", "--email", "a@example.com")["id"] == "lead_1"
    commands.assert_audit_ok()


def test_reset_leaves_the_queues_of_others_alone(
    commands: Commands, name: str, conn: psycopg.Connection
) -> None:
    conn.execute("select pgmq.create('theirs'), pgmq.send('theirs', '{}')")
    commands.within.run("add-lead", "--name", "A", "--email", "a@example.com")
    commands.run("db", "reset", "--confirm", name)
    assert conn.execute("select queue_name from pgmq.list_queues()").fetchall() == [("theirs",)]
    assert conn.execute("select count(*) from pgmq.q_theirs").fetchall() == [(1,)]


def test_reset_is_refused_while_a_worker_lives(commands: Commands, name: str) -> None:
    commands.within.run("add-lead", "--name", "A", "--email", "a@example.com")
    with commands.start("worker") as worker:
        worker.wait_for_line("Drip worker started .*")
        refused = commands.run("db", "reset", "--confirm", name, code=4)
        assert "1 worker(s) live, first console on " in refused.err
        assert f"pid {worker.pid};" in refused.err
        assert commands.within.json("db", "status")["liveWorkers"] == 1
        worker.send(signal.SIGTERM)
        assert worker.wait().code == 0
    assert len(commands.within.json("leads", "list")) == 1
    commands.run("db", "reset", "--confirm", name)


@pytest.mark.parametrize("answer", ["right", "wrong", "end of input", "Ctrl-C"])
def test_reset_asks_for_the_name_at_a_terminal(commands: Commands, name: str, answer: str) -> None:
    commands.within.run("add-lead", "--name", "A", "--email", "a@example.com")
    typed = {"right": f"{name}\n", "wrong": "hyperdrip\n", "end of input": "\x04"}
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [HYPERDRIP, "db", "reset"],
        env=commands.environment(TERM="dumb"),
        cwd=commands.folder,
        stdin=theirs,
        stderr=theirs,
        stdout=subprocess.PIPE,
    ) as process:
        os.close(theirs)
        said = ""
        while "Type the database's name to go on" not in said:
            said += os.read(ours, 1000).decode()
        if answer == "Ctrl-C":
            _interrupt(process)
        else:
            os.write(ours, typed[answer].encode())
        out = _output(process)
    said += _read_rest(ours)
    os.close(ours)

    assert f"This drops everything that Hyperdrip has in '{name}'." in said
    assert "Traceback" not in said
    left = len(commands.within.json("leads", "list"))
    if answer == "right":
        assert (process.returncode, out, left) == (0, f"Reset {name}\n", 0)
    else:
        assert (out, left) == ("", 1)
        assert process.returncode == (130 if answer == "Ctrl-C" else 2)


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    """Press Ctrl-C until it ends: one right before it reads the terminal is lost on Python."""
    for _ in range(30):
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=1)
            return


def _output(process: subprocess.Popen[bytes]) -> str:
    """What it writes until it ends; it is killed if it does not."""
    try:
        return process.communicate(timeout=30)[0].decode()
    except subprocess.TimeoutExpired:
        process.kill()
        raise


def _read_rest(terminal: int) -> str:
    said = b""
    while True:
        try:
            piece = os.read(terminal, 1000)
        except OSError:  # the other side has closed it
            return said.decode()
        if not piece:
            return said.decode()
        said += piece
