"""Other job queues on PostgreSQL, each in its own best documented mode, doing no-op jobs.

They are installed for the benchmark alone, under benchmarks/.peers: those on PyPI into a virtual
environment, those on npm beside a Node.js of the version that they need, if the system's is older.
"""

import functools
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
FOLDER = HERE.parent / ".peers"
PYTHON = FOLDER / "python" / "bin" / "python"
NODE_PACKAGES = FOLDER / "node"
INSTALL_SECONDS = 300
RUN_SECONDS = 300

FROM_PYPI = ("pgqueuer==1.6.0", "asyncpg==0.32.0", "uvloop==0.23.0", "procrastinate==3.10.0")
FROM_NPM = ("graphile-worker@0.18.0", "pg-boss@12.38.0")
OLDEST_NODE = (22, 18)
NODE = "22.23.3"


class PeerBroken(Exception):
    """A peer could not be installed, or did not do its jobs."""


@dataclass(frozen=True)
class Peer:
    """`script`: takes `enqueue` or `drain`, a URL and a number of jobs, and prints JSON."""

    name: str
    script: str
    package: str
    jobs: int
    mode: str

    def enqueue(self, url: str) -> None:
        """Make the peer's schema, and jobs that do nothing."""
        self._run("enqueue", url)

    def drain(self, url: str) -> float:
        """Let one worker process do the jobs: jobs a second, from the first to the last commit."""
        said = json.loads(self._run("drain", url).splitlines()[-1])
        if said["done"] != self.jobs:
            raise PeerBroken(f"{self.name} did {said['done']} of {self.jobs} jobs")
        return float(said["done"] / said["seconds"])

    def install(self) -> None:
        """Install it, unless it is there. Raises: PeerBroken."""
        (_install_node if self.script.endswith(".mjs") else _install_python)()

    @property
    def version(self) -> str | None:
        """The version that is installed."""
        if self.script.endswith(".mjs"):
            file = NODE_PACKAGES / "node_modules" / self.package / "package.json"
            return str(json.loads(file.read_text())["version"]) if file.exists() else None
        for found in PYTHON.parents[1].glob(f"lib/*/site-packages/{self.package}-*.dist-info"):
            return found.name.removeprefix(f"{self.package}-").removesuffix(".dist-info")
        return None

    def _run(self, what: str, url: str) -> str:
        program = str(_node()) if self.script.endswith(".mjs") else str(PYTHON)
        done = subprocess.run(
            [program, str(HERE / self.script), what, url, str(self.jobs)],
            check=False,
            cwd=NODE_PACKAGES if self.script.endswith(".mjs") else FOLDER,
            env={"PATH": os.environ.get("PATH", os.defpath), "HYPERDRIP_PEERS": str(NODE_PACKAGES)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
        )
        if done.returncode or not done.stdout.strip():
            raise PeerBroken(f"{self.name}: {_last_line(done.stderr or done.stdout)}")
        return done.stdout


PEERS = (
    Peer(
        "graphile-worker",
        "graphile.mjs",
        "graphile-worker",
        20_000,
        "24 concurrent jobs, local queue of 500, completed in batches",
    ),
    Peer("pg-boss", "boss.mjs", "pg-boss", 20_000, "fetch and complete in batches of 500"),
    Peer(
        "pgqueuer",
        "pgqueuer_jobs.py",
        "pgqueuer",
        10_000,
        "asyncpg with uvloop, batches of 1,000",
    ),
    Peer(
        "procrastinate",
        "procrastinate_jobs.py",
        "procrastinate",
        500,
        "30 jobs at once, deleted when done",
    ),
)


def versions() -> Iterator[tuple[str, str]]:
    """The version of each peer that is installed."""
    for peer in PEERS:
        version = peer.version
        if version is not None:
            yield peer.name, f"{version} ({peer.mode})"
    if NODE_PACKAGES.exists():
        yield "Node.js", _said([str(_node()), "--version"]).strip().removeprefix("v")


def _install_python() -> None:
    wanted = FOLDER / f"python-{_word(FROM_PYPI)}.made"
    if not wanted.exists():
        shutil.rmtree(FOLDER / "python", ignore_errors=True)
        _require([sys.executable, "-m", "venv", str(FOLDER / "python")])
        _require([str(PYTHON), "-m", "pip", "install", "--quiet", *FROM_PYPI])
        wanted.touch()


def _install_node() -> None:
    wanted = FOLDER / f"node-{_word(FROM_NPM)}.made"
    if wanted.exists():
        return
    npm = shutil.which("npm")
    if npm is None:
        raise PeerBroken("npm is not installed, and this peer comes from there")
    shutil.rmtree(NODE_PACKAGES, ignore_errors=True)
    NODE_PACKAGES.mkdir(parents=True)
    (NODE_PACKAGES / "package.json").write_text('{"private": true}\n')
    packages = [*FROM_NPM]
    if _node_version(shutil.which("node")) < OLDEST_NODE:
        packages.append(f"{_node_package()}@{NODE}")
    quiet = ("--no-audit", "--no-fund", "--loglevel=error")
    _require([npm, "install", *quiet, *packages], cwd=NODE_PACKAGES)
    wanted.touch()


def _node_package() -> str:
    system = {"Linux": "linux", "Darwin": "darwin"}.get(platform.system(), "linux")
    is_arm = platform.machine() in ("arm64", "aarch64")
    return f"node-{system}-{'arm64' if is_arm else 'x64'}"


def _node() -> Path:
    own = NODE_PACKAGES / "node_modules" / _node_package() / "bin" / "node"
    return own if own.exists() else Path(shutil.which("node") or "node")


@functools.cache
def _node_version(program: str | None) -> tuple[int, ...]:
    found = re.match(r"v(\d+)\.(\d+)", _said([program, "--version"])) if program else None
    return tuple(map(int, found.groups())) if found else (0, 0)


def _word(packages: tuple[str, ...]) -> str:
    return re.sub(r"[^\w.]+", "-", "-".join(packages))


def _said(command: list[str]) -> str:
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout


def _require(command: list[str], *, cwd: Path | None = None) -> None:
    FOLDER.mkdir(exist_ok=True)
    try:
        done = subprocess.run(
            command,
            check=False,
            cwd=cwd or FOLDER,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise PeerBroken(f"installing took more than {INSTALL_SECONDS} s") from None
    if done.returncode:
        raise PeerBroken(f"not installed: {_last_line(done.stderr or done.stdout)}")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it said nothing"
