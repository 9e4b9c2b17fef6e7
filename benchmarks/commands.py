"""The installed command as a process of its own: how long it takes, and how much memory."""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from hyperdrip.settings import Settings, parse

HYPERDRIP = Path(sys.executable).with_name("hyperdrip")
LOOK_SECONDS = 0.02
STOP_SECONDS = 30.0


@dataclass(frozen=True)
class Ended:
    """A command that has ended; `cpu_seconds`: the processor time of its own process.

    `peak_mb`: the most memory that it held at once (Linux), if that was asked for.
    """

    seconds: float
    cpu_seconds: float
    peak_mb: float
    out: str
    err: str


def settings_of(url: str, **settings: str) -> Settings:
    """The settings of a process that is told nothing but this."""
    return parse({"DATABASE_URL": url, **settings}, default_home=Path(tempfile.gettempdir()))


def environment(url: str = "", **settings: object) -> dict[str, str]:
    """The whole environment of a command: nothing of the caller's but where programs lie."""
    given = {"DATABASE_URL": url, "LANG": "C.UTF-8", "HOME": tempfile.gettempdir(), **settings}
    path = os.pathsep.join((str(HYPERDRIP.parent), os.environ.get("PATH", os.defpath)))
    return {"PATH": path, **{name: str(value) for name, value in given.items()}}


def run(
    command: Sequence[str | Path], environment: dict[str, str], *, with_memory: bool = False
) -> Ended:
    """Run a program to its end. Raises: RuntimeError with what it said unless it ends with 0."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started, before = time.perf_counter(), _cpu_of_children()
        with subprocess.Popen(
            [str(part) for part in command],
            env=environment,
            cwd=tempfile.gettempdir(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        ) as process:
            peak = 0.0
            if with_memory:
                while process.poll() is None:
                    peak = max(peak, peak_mb(process.pid))
                    time.sleep(LOOK_SECONDS)
            code = process.wait()
        seconds = time.perf_counter() - started
        said = (_text(out), _text(err))
    if code:
        words = " ".join(str(part) for part in command[1:4])
        raise RuntimeError(f"{words} ended with {code}: {said[1] or said[0]}")
    return Ended(seconds, _cpu_of_children() - before, peak, *said)


def hyperdrip(
    url: str, *arguments: str | Path, with_memory: bool = False, **settings: object
) -> Ended:
    """Run `hyperdrip` on a database, without any .env."""
    command = (HYPERDRIP, "--env-file", os.devnull, *arguments)
    return run(command, environment(url, **settings), with_memory=with_memory)


@dataclass(frozen=True)
class Running:
    """A command that runs beside us."""

    process: subprocess.Popen[bytes]
    err: IO[bytes]

    def is_running(self) -> bool:
        return self.process.poll() is None

    def wait(self, *, seconds: float) -> None:
        """Wait for its end. Raises: RuntimeError with its last words unless it ends with 0."""
        if self.process.wait(seconds):
            words = _text(self.err).splitlines()[-1:]
            raise RuntimeError(f"hyperdrip ended with {self.process.returncode}: {words}")


@contextmanager
def started(url: str, *arguments: str | Path, **settings: object) -> Iterator[Running]:
    """Start `hyperdrip` on a database; it is told to stop at the end of the block."""
    with (
        tempfile.TemporaryFile() as err,
        subprocess.Popen(
            [str(part) for part in (HYPERDRIP, "--env-file", os.devnull, *arguments)],
            env=environment(url, **settings),
            cwd=tempfile.gettempdir(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=err,
        ) as process,
    ):
        try:
            yield Running(process, err)
        finally:
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def peak_mb(pid: int) -> float:
    """VmHWM: unlike what wait4 reports it begins anew with the program, not with who started it."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def _cpu_of_children() -> float:
    """Of those that have ended and were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
