"""A campaign through PgBouncer in transaction mode: nobody relies on a session."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.acceptance.commands import Commands, commands_on
from tests.database import Server
from tests.factories import count_states
from tests.pooler import MISSING, Pooler, find_pgbouncer

FEW_SESSIONS = 3


@pytest.fixture
def pooled(server: Server, dsn: str, tmp_path: Path) -> Iterator[Commands]:
    """Commands that reach the fresh database through a pooler with hardly any sessions."""
    program = find_pgbouncer()
    if program is None:
        pytest.skip(MISSING)
    direct = server.direct(dsn)
    pooler = Pooler(program, direct, pool_size=FEW_SESSIONS)
    yield commands_on(pooler.dsn(direct), tmp_path, SENDER="null", WORKER_MESSAGE_DELAY=0)
    pooler.stop()


def test_a_campaign_runs_through_a_pooler_with_fewer_sessions_than_workers(
    pooled: Commands, conn: psycopg.Connection[Any]
) -> None:
    lines = [f"L{number},l{number}@example.com" for number in range(30)]
    (pooled.folder / "leads.csv").write_text("\n".join(["name,email", *lines]))
    within = pooled.within
    within.run("quota", "set", "default", "25", "--yes")
    imported = within.json("import", "leads.csv", "--max-messages", "3")
    assert imported["added"] == 30
    within.run("leads", "pause", "1", "2", "--yes")
    within.run("leads", "move", "3", "--by", "2", "--yes")
    within.run("leads", "resume", "1", "--yes")

    with ExitStack() as workers:
        running = [
            workers.enter_context(pooled.start("worker", "--drain", "--json"))
            for _ in range(FEW_SESSIONS + 2)
        ]
        ended = [worker.wait() for worker in running]
    assert {each.code for each in ended} == {0}
    sent = sum(each.json["sent"] for each in ended)
    assert count_states(conn)["sent"] == sent > 0

    conn.execute("update hyperdrip.message set state = 'unknown' where lead_id = 5 and number = 1")
    within.run("reconcile", "--all", "--resend", "--yes", HYPERDRIP_NOW="2024-01-17T09:00:00Z")
    late = pooled.json("worker", "--drain", HYPERDRIP_NOW="2024-01-17T09:00:00Z")
    assert late["rolledOver"] > 0
    assert late["sent"] > 0
    within.run("leads", "stop", "4", "--yes", HYPERDRIP_NOW="2024-01-17T09:00:00Z")
    pooled.assert_audit_ok()
