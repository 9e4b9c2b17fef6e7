"""The README's sessions are run, and print what it shows.

`HYPERDRIP_WRITE_README=1` writes their output anew instead of comparing it.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.commands import Commands
from tests.database import make_folder

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TIME_OF_DAY = re.compile(r"[ T]\d\d:\d\d:\d\d(\.\d+)?Z")


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    home = make_folder("hyperdrip.")
    values = {
        "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
        "HOME": str(home),
        "HYPERDRIP_HOME": str(home / "data"),
        "HYPERDRIP_ENV": "test",
        "HYPERDRIP_NOW": "2024-01-15T09:00:00Z",
        "DAILY_MAX": "3",
        "LANG": "C.UTF-8",
    }
    yield values
    subprocess.run(["hyperdrip", "db", "stop"], env=values, cwd=home, check=False)
    shutil.rmtree(home)


def test_the_sessions_of_the_readme_print_what_it_shows(environment: dict[str, str]) -> None:
    text = README.read_text()
    # All commands run first: replacing must not happen half-way.
    shown = BLOCK.findall(text)
    assert shown
    ran = [_run_block(block, environment) for block in shown]
    if os.environ.get("HYPERDRIP_WRITE_README"):
        fresh = iter(ran)
        README.write_text(BLOCK.sub(lambda _: f"```console\n{next(fresh)}```", text))
        return
    for expected, actual in zip(shown, ran, strict=True):
        assert TIME_OF_DAY.sub("", actual) == TIME_OF_DAY.sub("", expected)


def test_every_command_of_the_readme_exists(tmp_path: Path) -> None:
    named = set(
        re.findall(r"^\| `hyperdrip ([a-z-]+(?: [a-z]+)?)", README.read_text(), re.MULTILINE)
    )
    groups = {"campaigns", "leads", "messages", "queues", "quota", "suppressions", "db"}
    assert len(named) > 15
    for words in named:
        path = words.split() if words.split()[0] in groups else words.split()[:1]
        Commands(tmp_path).within.run(*path, "--help")


def _run_block(block: str, environment: dict[str, str]) -> str:
    lines = []
    for line in block.splitlines():
        if line.startswith("$ "):
            done = subprocess.run(
                ["sh", "-c", line[2:]],
                env=environment,
                cwd=environment["HOME"],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            lines += [line, *done.stdout.splitlines()]
    return "".join(f"{line}\n" for line in lines)
