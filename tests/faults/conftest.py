"""Fixtures for killing commands."""

from pathlib import Path

import pytest

from tests.acceptance.commands import Commands, commands_on


@pytest.fixture
def commands(dsn: str, tmp_path: Path) -> Commands:
    """Commands on the fresh database."""
    return commands_on(dsn, tmp_path)
