"""No secret of the settings is ever shown: by real processes, also those that fail."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from hyperdrip.senders.kit import make_kit
from hyperdrip.settings import Settings, parse
from tests.acceptance.commands import Commands, list_processes_of, wait_until
from tests.acceptance.test_senders import install
from tests.database import Server
from tests.factories import add_leads

MARK = "s3cr3t-never-shown"

# A plug-in that shows what it got wherever it can, and then breaks.
TALKATIVE = """
import logging
log = logging.getLogger("hyperdrip.talkative")
class Sender:
    name, wave_size, is_quiet = "own", 10, False
    def __init__(self, kit):
        self.kit = kit
    def send_wave(self, claims, may_send):
        kit = self.kit
        log.warning("%r %s %r %r", kit, kit, kit.settings, kit.compose)
        yield claims[0], kit.render(claims[0])
def it(kit):
    return Sender(kit)
def broken(kit):
    raise RuntimeError(f"{kit} {kit.settings!r}")
"""


@pytest.fixture
def owner(server: Server, dsn: str) -> Iterator[str]:
    """The DSN of the fresh database for a user of its own whose password is a secret."""
    database = conninfo_to_dict(server.direct(dsn))["dbname"]
    name = f"{str(database).rsplit('_', 1)[0]}_{str(database)[-12:]}"
    with psycopg.connect(server.direct(dsn), autocommit=True) as conn:
        conn.execute(
            sql.SQL("create role {} superuser login password {}").format(
                sql.Identifier(name), sql.Literal(MARK)
            )
        )
    yield make_conninfo(server.direct(dsn), user=name, password=MARK)
    with server.connect() as conn:
        conn.execute(sql.SQL("drop role {}").format(sql.Identifier(name)))


@pytest.fixture
def secret(commands: Commands, owner: str, tmp_path: Path) -> Commands:
    """Commands with a secret in each setting that has one, and a plug-in that talks."""
    packages = install(tmp_path / "packages", "a-b", TALKATIVE, own="it", broken="broken")
    commands.settings.update(
        DATABASE_URL=owner,
        SMTP_URL=f"smtp://me:{MARK}@127.0.0.1:1",
        SECRET_KEY=f"{MARK}-key",
        WEBHOOK_URL=f"https://me:{MARK}@example.com/{MARK}",
        WEBHOOK_SECRET=MARK,
        PUBLIC_URL="https://mail.example.com",
        PYTHONPATH=packages,
        LOG_LEVEL="debug",
    )
    return commands


SAYING = [
    *(["status"], ["plan"], ["audit"], ["explain", "lead_1"], ["leads", "list"]),
    *(["db", "status"], ["db", "migrate"], ["messages", "list"], ["queues", "show"]),
    *(["campaigns", "preview", "1", "--campaign", "default"], ["quota", "today"]),
    ["campaigns", "test", "1", "--to", "me@example.com", "--campaign", "default"],
    [
        "campaigns",
        "test",
        "1",
        "--to",
        "me@example.com",
        "--campaign",
        "default",
        "--sender",
        "own",
    ],
    ["worker", "--drain", "--message-delay", "0", "--sender", "own"],
    ["worker", "--drain", "--message-delay", "0", "--sender", "broken"],
    ["worker", "--drain", "--message-delay", "0", "--sender", "smtp"],
    ["worker", "--drain", "--message-delay", "0", "--sender", "webhook"],
    ["db", "psql", "--", "-c", "select nothing"],
    ["db", "reset", "--confirm", "x"],
]
# What goes wrong with the settings themselves.
WRONG: list[dict[str, Any]] = [
    {"DATABASE_URL": f"postgresql://me:{MARK}@127.0.0.1:1/d"},
    {"DATABASE_URL": f"postgresql://me:{MARK}@127.0.0.1:none/d"},
    {"DATABASE_URL": f"postgresql://me:{MARK}@[::1/d"},
    {"DATABASE_URL": f"postgresql://me:p%{MARK}@127.0.0.1:1/d"},
    {"DATABASE_URL": f"host=127.0.0.1 port=1 password={MARK} nonsense"},
    {"DATABASE_URL": f"host=127.0.0.1 port=1 password='{MARK}"},
    {"DATABASE_URL": f"mysql://me:{MARK}@127.0.0.1/d"},
    {"DATABASE_URL": f"postgresql://me@127.0.0.1:1/d?password={MARK}"},
    {"DATABASE_URL": f"postgresql://me@127.0.0.1:1/d?sslpassword={MARK}&sslmode=nope"},
    {"SMTP_URL": f"gopher://me:{MARK}@127.0.0.1:none"},
    {"WEBHOOK_URL": f"nonsense {MARK}"},
    {"SECRET_KEY": f"short,{MARK}"},
]


@pytest.mark.slow
def test_no_command_shows_a_secret(secret: Commands, conn: psycopg.Connection) -> None:
    add_leads(conn, 2, messages=1)
    codes = set()
    said = ""
    for number, words in enumerate(SAYING):
        more = [] if "psql" in words else [("-v", "--json")[number % 2]]
        log_format = ("text", "json")[number % 2]
        done = secret.run(*words, *more, code=None, LOG_FORMAT=log_format)
        codes.add(done.code)
        said += done.out + done.err
        assert MARK not in said, words
    assert {0, 1, 2} <= codes
    # The plug-in has shown what it has.
    assert "Settings(explicit=" in said


@pytest.mark.parametrize("wrong", WRONG)
def test_no_error_shows_a_secret(secret: Commands, wrong: dict[str, Any]) -> None:
    for words in (["status"], ["worker", "--drain", "--sender", "own"], ["db", "psql"]):
        done = secret.within.run(*words, "-v", code=None, **wrong)
        assert MARK not in done.out + done.err, words
        if "DATABASE_URL" in wrong:
            assert done.code in {2, 6}


def test_no_process_shows_a_secret_in_its_command_line(
    secret: Commands, conn: psycopg.Connection
) -> None:
    asleep = "select pg_sleep(60) from (select 'asleep') as why"
    with (
        secret.start("worker", "--sender", "null") as worker,
        secret.start("db", "psql", "--", "-c", asleep) as psql,
    ):
        worker.wait_for_line("Drip worker started .*")
        wait_until(lambda: len(list_processes_of("asleep")) >= 1, "psql runs")
        wait_until(
            lambda: (
                conn.execute("select from pg_stat_activity where query = %s", [asleep]).fetchone()
                is not None
            ),
            "psql is connected",
        )
        assert list_processes_of(MARK) == []
        assert MARK not in worker.err + psql.err


def test_no_value_that_is_passed_around_shows_a_secret() -> None:
    names = ("DATABASE_URL", "SMTP_URL", "SECRET_KEY", "WEBHOOK_URL", "WEBHOOK_SECRET")
    values = dict.fromkeys(names, f"postgresql://me:{MARK}@host/d")
    values["SMTP_URL"] = f"smtp://me:{MARK}@host"
    settings = parse(values, default_home=Path("/nowhere"))
    kit = make_kit(settings, lambda *_: pytest.fail("nothing is read"), instance="1/2")
    for value in (settings, kit, kit.compose, kit.render, [settings], {"kit": kit}):
        assert MARK not in f"{value!r} {value!s}"
    assert MARK not in json.dumps(vars(kit), default=repr)
    assert isinstance(kit.settings, Settings)
