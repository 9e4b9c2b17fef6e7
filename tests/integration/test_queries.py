"""Every query file can be planned, is used, and the worker's stay on their indexes."""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from itertools import product
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from hyperdrip import db
from hyperdrip import instance as instances
from tests.factories import MONDAY, add_leads

QUERIES = sorted((db.sql_folder() / "queries").glob("*.sql"))
# What `explain` does not take; the migrations' tests run these.
UTILITY = {"copy_import_rows", "create_database", "create_migration_table", "drop_schema"}
NOW = datetime(2024, 1, 15, 9, tzinfo=UTC)
PLACEHOLDER = re.compile(r"%\((\w+)\)s")

# A value for each placeholder, as the code gives it: arrays for what is plural.
SAMPLES: dict[str, Any] = {
    "added": 1,
    "after": 0,
    "are_attempts": [True],
    "backoffs": [30],
    "batch": 1,
    "before": datetime(2024, 1, 15, tzinfo=UTC),
    "campaign": "default",
    "campaign_version": 1,
    "capacity": None,
    "checksum": "",
    "counted": [1],
    "counts": [1],
    "daily_max": 100,
    "day": MONDAY,
    "days": [MONDAY],
    "delays": [1],
    "duplicates": 1,
    "domains": ["example.com"],
    "email": None,
    "emails": ["a@example.com"],
    "enrolled": 0,
    "envelope_ids": [1],
    "environment": "test",
    "errors": [None],
    "every": [3.0],
    "existing": "skip",
    "fields": [Jsonb({})],
    "fingerprint": "1/2",
    "first_day": MONDAY,
    "firsts": [1],
    "from_day": MONDAY,
    "from_statuses": ["ACTIVE"],
    "has_suppressions": True,
    "claimed": 1,
    "host": "localhost",
    "import_id": None,
    "is_dry_run": False,
    "is_paused": True,
    "is_stopped": False,
    "last_day": None,
    "lasts": [1],
    "has_keys": True,
    "number": 1,
    "with_console": True,
    "lead_id": 1,
    "leads": [1],
    "leads_sent_after": [0],
    "lead_ids": [1],
    "limit": 100,
    "longest": 600.0,
    "spans": [1.0],
    "ends": [NOW],
    "markdowns": ["Hi"],
    "max_messages": 5,
    "name": "default",
    "names": ["Ada"],
    "notes": [None],
    "now": NOW,
    "numbers": [1],
    "part": None,
    "phone_keys": ["+12025550143"],
    "phones": [None],
    "pid": 1,
    "plain_texts": [None],
    "preheaders": [None],
    "provider_ids": [None],
    "read": 1,
    "reason": None,
    "reasons": ["bounced: 550 5.1.1"],
    "rejected": 1,
    "resent": [0],
    "reserved": [1],
    "run": 1,
    "runs": [1],
    "seconds": 1,
    "sender": "null",
    "sent": [0],
    "sent_after": [0],
    "sent_ats": [NOW],
    "since": NOW,
    "settings": Jsonb({}),
    "source": "leads.csv",
    "start": "a",
    "start_on": None,
    "state": "planned",
    "states": ["sent"],
    "status": "ACTIVE",
    "stored": "1/2",
    "subjects": ["Hi"],
    "suppressed": 0,
    "text": "ada",
    "time_zone": "UTC",
    "today": MONDAY,
    "token": "00000000-0000-0000-0000-000000000000",
    "tokens": [1],
    "updated": 1,
    "values": ["a"],
    "version": 1,
    "worker": 1,
    "worker_id": 1,
}


def explain(
    conn: psycopg.Connection,
    name: str,
    values: dict[str, Any] | None = None,
    *,
    is_generic: bool = False,
    is_executed: bool = False,
) -> dict[str, Any]:
    """The plan of a query file, as PostgreSQL gives it.

    `is_generic`: the one after a few executions, when the statement is prepared and knows no
    values. `is_executed`: with what it has come to.
    """
    text = db.query(name).decode()
    wanted = list(dict.fromkeys(PLACEHOLDER.findall(text)))
    given = {**{key: SAMPLES[key] for key in wanted}, **(values or {})}
    words = "explain (format json, analyze)" if is_executed else "explain (format json)"
    if not is_generic:
        row = conn.execute(f"{words} {text}".encode(), given).fetchone()
        assert row is not None
        return row[0][0]["Plan"]
    text = PLACEHOLDER.sub(lambda found: f"${wanted.index(found[1]) + 1}", text)
    with psycopg.ClientCursor(conn) as cursor:
        cursor.execute("set plan_cache_mode = force_generic_plan")
        cursor.execute(f"prepare prepared as {text}".encode())
        marks = ", ".join(["%s"] * len(wanted))
        row = cursor.execute(
            f"{words} execute prepared ({marks})".encode(), [given[key] for key in wanted]
        ).fetchone()
        cursor.execute("deallocate prepared")
        cursor.execute("reset plan_cache_mode")
    assert row is not None
    return row[0][0]["Plan"]


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", []):
        yield from nodes(inner)


@pytest.mark.parametrize("path", QUERIES, ids=lambda path: path.stem)
def test_a_query_file_says_what_it_does_and_is_used(path: Path) -> None:
    text = path.read_text()
    assert re.match(r"-- [A-Z].*[.,:;?\w]\n", text), "its first line says what comes back"
    sources = (db.sql_folder().parent / "hyperdrip").rglob("*.py")
    assert any(f'query("{path.stem}")' in source.read_text() for source in sources)


def test_every_query_file_can_be_planned(conn: psycopg.Connection) -> None:
    planned = [path.stem for path in QUERIES if path.stem not in UTILITY]
    assert len(planned) > 40
    for name in planned:
        assert explain(conn, name)["Node Type"], name
    # No sample is left over from a placeholder that is gone.
    text = "".join(path.read_text() for path in QUERIES)
    assert set(PLACEHOLDER.findall(text)) == set(SAMPLES)


def fill_ledger(conn: psycopg.Connection, leads: int, *, messages: int) -> None:
    """One message of each lead on Monday, and one on each of the days that follow."""
    instances.set_daily_max(conn, leads)
    add_leads(conn, leads, messages=1)
    conn.execute(
        """
        insert into hyperdrip.message (lead_id, run, number, campaign, campaign_version, day,
            envelope_id)
        select lead.id, 1, number, 'default', 1, date '2024-01-14' + number, lead.id
        from hyperdrip.lead cross join generate_series(2, %s) as number
        """,
        [messages],
    )


def indexes_on_message(plan: dict[str, Any]) -> set[str]:
    """How a plan gets at messages: the indexes that it uses, and `Seq Scan`."""
    scans = [node for node in nodes(plan) if "Scan" in node["Node Type"]]
    return {
        node.get("Index Name", node["Node Type"])
        for node in scans
        if node.get("Relation Name") == "message" or "Bitmap Index" in node["Node Type"]
    } - {"Bitmap Heap Scan"}


WAVE = 500
HOT = (
    "advance_leads",
    "claim_wave",
    "finish_messages",
    "finish_sent",
    "list_claimed",
    "list_leads_of_envelopes",
    "list_planned_envelopes",
    "list_settled",
    "lock_expired",
    "lock_lease",
    "lock_planned",
    "lock_wave",
)


def wave_values(name: str, *, is_torn: bool = False) -> dict[str, Any]:
    """What a worker gives to a query about a wave; `is_torn`: each envelope is its own span."""
    values: dict[str, Any] = {
        "lead_ids": list(range(1, WAVE + 1)),
        "runs": [1] * WAVE,
        "numbers": [1] * WAVE,
        "envelope_ids": list(range(1, WAVE + 1)),
        "firsts": list(range(1, WAVE + 1)) if is_torn else [1],
        "lasts": list(range(1, WAVE + 1)) if is_torn else [WAVE],
        "sent_after": [0] * WAVE,
        "leads": list(range(1, WAVE + 1)),
        "leads_sent_after": [0] * WAVE,
        "tokens": [1] * WAVE,
        "states": ["sent"] * WAVE,
        "sent_ats": [NOW] * WAVE,
        "errors": [None] * WAVE,
        "provider_ids": [None] * WAVE,
        "backoffs": [0] * WAVE,
        "are_attempts": [True] * WAVE,
        "counted": [1] * WAVE,
    }
    wanted = PLACEHOLDER.findall(db.query(name).decode())
    return {key: values[key] for key in wanted if key in values}


def rows_visited(plan: dict[str, Any]) -> float:
    """How many rows the nodes of an executed plan have looked at, all in all."""
    return sum(
        (
            node["Actual Rows"]
            + node.get("Rows Removed by Filter", 0)
            + node.get("Rows Removed by Join Filter", 0)
        )
        * node["Actual Loops"]
        for node in nodes(plan)
    )


# On a young database a day may be a good part of all messages, and statistics are missing, old, or
# say that nothing is being sent: no wave may then look at each message of the day for each of its
# own, as a join does whose rows are thought to be few.
@pytest.mark.slow
@pytest.mark.own_sessions
@pytest.mark.parametrize("statistics", ["none", "before the day", "in the middle of it"])
def test_a_wave_looks_at_a_few_rows_for_each_message_whatever_statistics_say(
    conn: psycopg.Connection, statistics: str
) -> None:
    for table in ("message", "lead"):
        conn.execute(f"alter table hyperdrip.{table} set (autovacuum_enabled = false)")
    fill_ledger(conn, 16_000, messages=5)
    if statistics == "before the day":
        conn.execute("analyze")
    conn.execute(
        "update hyperdrip.message set state = 'sent', sent_at = now()"
        " where number = 1 and lead_id > 8000"
    )
    if statistics == "in the middle of it":
        conn.execute("analyze")
    conn.execute("update hyperdrip.instance set newest_day = %s", [MONDAY])
    states = {
        "finish_messages": "sending",
        "finish_sent": "sending",
        "list_claimed": "sending",
        "list_settled": "sent",
        "lock_expired": "sending",
        "lock_lease": "sending",
    }
    for name, is_generic, is_torn in product(HOT, (False, True), (False, True)):
        with conn.transaction(force_rollback=True):
            conn.execute(
                "update hyperdrip.message set state = %s, token = 1, worker = 1, sent_at = null"
                " where number = 1 and lead_id <= %s",
                [states.get(name, "planned"), WAVE],
            )
            values = wave_values(name, is_torn=is_torn)
            plan = explain(conn, name, values, is_generic=is_generic, is_executed=True)
        # A small table may be scanned once or twice; never once for each message.
        assert rows_visited(plan) < 30 * WAVE + 2 * 80_000, (name, is_generic)


# Waves of 500 from a day of 4,000 messages, among 200,000 of which the others are of later days.
@pytest.mark.slow
@pytest.mark.own_sessions
def test_no_query_of_the_worker_reads_the_whole_ledger(conn: psycopg.Connection) -> None:
    fill_ledger(conn, 4000, messages=50)
    conn.execute("analyze hyperdrip.message, hyperdrip.lead, hyperdrip.quota_day")
    for name in HOT:
        for is_generic in (False, True):
            plan = explain(conn, name, wave_values(name), is_generic=is_generic)
            found = indexes_on_message(plan) - {"Tid Scan"}
            assert found or name == "advance_leads", name
            assert found <= {"message_pkey", "message_envelope"}, name
    for name, values in (
        ("close_day", {"day": date(2024, 2, 1)}),
        ("list_leads_with_late_messages", {"today": MONDAY}),
    ):
        plan = explain(conn, name, values)
        assert indexes_on_message(plan) == {"message_envelope"}, name
