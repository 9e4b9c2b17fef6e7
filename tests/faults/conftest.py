"""Fixtures for killing commands, workers and servers."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.commands import Commands, commands_on
from tests.database import Server, make_folder
from tests.faults.scenarios import Fresh


@pytest.fixture
def commands(dsn: str, tmp_path: Path) -> Commands:
    """Commands on the fresh database."""
    return commands_on(dsn, tmp_path)


@pytest.fixture
def fresh(server: Server) -> Iterator[Fresh]:
    """Databases and folders for scenarios."""
    folder = make_folder("hyperdrip-faults-")
    made = Fresh(server, folder)
    yield made
    made.drop()
    shutil.rmtree(folder)
