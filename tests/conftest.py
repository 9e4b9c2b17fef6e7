"""Fixtures for every test: a database of its own, and nothing of the caller's environment."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, settings

from hyperdrip import Hyperdrip
from hyperdrip.db import connect
from hyperdrip.settings import PARSERS
from tests.database import Place, Server, make_place
from tests.factories import MORNING, Watch, make_settings, wait_until

PLACE = pytest.StashKey[Place]()

# No test is timed. Said here, before the tests of any folder are imported.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


def _place(config: pytest.Config) -> Place:
    """The run's server: chosen by the controlling process, at the first need of it."""
    if PLACE not in config.stash:
        told = getattr(config, "workerinput", None)
        config.stash[PLACE] = Place.of(told["place"]) if told else make_place()
    return config.stash[PLACE]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist where the server is."""
    node.workerinput["place"] = _place(node.config).shared()


def pytest_configure() -> None:
    """Take Ctrl-C as a terminal gives it, also in the background, where a shell has it ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the server that the controlling process chose."""
    if PLACE in config.stash and not hasattr(config, "workerinput"):
        config.stash[PLACE].remove()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting and no .env of the caller's reaches a test."""
    for name in PARSERS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def server(pytestconfig: pytest.Config) -> Iterator[Server]:
    """The server of this run, on which `create` makes databases."""
    server = Server.at(_place(pytestconfig))
    yield server
    server.release()


@pytest.fixture
def admin(server: Server) -> Iterator[psycopg.Connection[Any]]:
    """An administrator's autocommit connection, on no database of the tests."""
    with server.connect() as conn:
        yield conn


@pytest.fixture
def new_database(server: Server, request: pytest.FixtureRequest) -> Iterator[Callable[..., str]]:
    """Make databases (`environment`, `time_zone`, `is_migrated`), dropped after the test: DSNs."""
    is_direct = request.node.get_closest_marker("own_sessions") is not None
    made: list[str] = []

    def create(**options: Any) -> str:
        dsn = server.create(**options)
        made.append(server.direct(dsn) if is_direct else dsn)
        return made[-1]

    yield create
    for dsn in made:
        server.drop(dsn)


@pytest.fixture
def dsn(new_database: Callable[..., str]) -> str:
    """A fresh database: migrated, environment test, UTC, 100 messages a day, nothing in it."""
    return new_database()


@pytest.fixture
def conn(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """An autocommit connection to the fresh database, that takes several commands at once."""
    with connect(dsn) as conn:
        conn.cursor_factory = psycopg.Cursor
        yield conn


@pytest.fixture
def new_conn(dsn: str) -> Iterator[Callable[[], psycopg.Connection[Any]]]:
    """Open further connections to the fresh database, closed after the test."""
    opened: list[psycopg.Connection[Any]] = []

    def open_one() -> psycopg.Connection[Any]:
        opened.append(connect(dsn))
        return opened[-1]

    yield open_one
    for conn in opened:
        conn.close()


@pytest.fixture
def drip(dsn: str) -> Iterator[Callable[..., Hyperdrip]]:
    """Open the fresh database as the library does: `drip(now=..., DAILY_MAX=3, ...)`.

    `now` is where its clock begins; settings are given by name, as text or numbers.
    """
    opened: list[Hyperdrip] = []

    def open_one(now: str = MORNING, **settings: object) -> Hyperdrip:
        opened.append(Hyperdrip(dsn, make_settings(dsn, HYPERDRIP_NOW=now, **settings)))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


@pytest.fixture
def subprocess_environment(dsn: str, tmp_path: Path) -> dict[str, str]:
    """The environment of a hyperdrip process that works on the fresh database."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
        "DATABASE_URL": dsn,
        "HYPERDRIP_ENV": "test",
        "HYPERDRIP_NOW": MORNING,
    }


@pytest.fixture
def no_deadlock(server: Server, dsn: str) -> Watch:
    """`with no_deadlock():` around what many do at once.

    A worker bears a deadlock as it bears a lost connection: the server's own count tells. A server
    process counts at its end, so all that came meanwhile have to be gone; a pooler's are ended.
    """
    others = (
        "from pg_stat_activity where datname = current_database() and usename is not null"
        " and pid <> pg_backend_pid()"
    )

    @contextmanager
    def watch() -> Iterator[None]:
        with psycopg.connect(server.direct(dsn), autocommit=True) as own:
            before = set(own.execute(f"select pid {others}"))
            yield
            if server.pooler:
                end_them = f"select pg_terminate_backend(pid) {others}"
                wait_until(lambda: not own.execute(end_them).fetchall())
            else:
                wait_until(lambda: set(own.execute(f"select pid {others}")) <= before)
            row = own.execute(
                "select deadlocks from pg_stat_database where datname = current_database()"
            ).fetchone()
        assert row == (0,)

    return watch
