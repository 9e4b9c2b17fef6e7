"""Every query file can be planned, is used, and the worker's stay on their indexes."""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
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
    "first_days": [MONDAY],
    "firsts": [1],
    "from_day": MONDAY,
    "from_statuses": ["ACTIVE"],
    "has_suppressions": True,
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
    "lead_ids": [1],
    "limit": 100,
    "longest": 600.0,
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
    "sent_ats": [NOW],
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
    conn: psycopg.Connection, name: str, values: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The plan of a query file, as PostgreSQL gives it."""
    wanted = PLACEHOLDER.findall(db.query(name).decode())
    given = {**{key: SAMPLES[key] for key in wanted}, **(values or {})}
    row = conn.execute(b"explain (format json) " + db.query(name), given).fetchone()
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


def explain_generic(conn: psycopg.Connection, name: str, values: dict[str, Any]) -> dict[str, Any]:
    """The plan after a few executions, when the statement is prepared and knows no values."""
    wanted = list(dict.fromkeys(PLACEHOLDER.findall(db.query(name).decode())))
    text = PLACEHOLDER.sub(lambda found: f"${wanted.index(found[1]) + 1}", db.query(name).decode())
    given = [{**SAMPLES, **values}[key] for key in wanted]
    with psycopg.ClientCursor(conn) as cursor:
        cursor.execute("set plan_cache_mode = force_generic_plan")
        cursor.execute(f"prepare prepared as {text}")
        marks = ", ".join(["%s"] * len(wanted))
        row = cursor.execute(f"explain (format json) execute prepared ({marks})", given).fetchone()
        cursor.execute("deallocate prepared")
    assert row is not None
    return row[0][0]["Plan"]


def fill_ledger(conn: psycopg.Connection) -> None:
    instances.set_daily_max(conn, 4000)
    add_leads(conn, 4000, messages=1)
    conn.execute(
        """
        insert into hyperdrip.message (lead_id, run, number, campaign, campaign_version, day,
            envelope_id)
        select lead.id, 1, number, 'default', 1, date '2024-01-14' + number, lead.id
        from hyperdrip.lead cross join generate_series(2, 50) as number
        """
    )
    conn.execute("analyze hyperdrip.message, hyperdrip.lead, hyperdrip.quota_day")


def indexes_on_message(plan: dict[str, Any]) -> set[str]:
    """How a plan gets at messages: the indexes that it uses, and `Seq Scan`."""
    scans = [node for node in nodes(plan) if "Scan" in node["Node Type"]]
    return {
        node.get("Index Name", node["Node Type"])
        for node in scans
        if node.get("Relation Name") == "message" or "Bitmap Index" in node["Node Type"]
    } - {"Bitmap Heap Scan"}


# Waves of 500 from a day of 4,000 messages, among 200,000 of which the others are of later days.
@pytest.mark.slow
@pytest.mark.own_sessions
def test_no_query_of_the_worker_reads_the_whole_ledger(conn: psycopg.Connection) -> None:
    fill_ledger(conn)
    count = 500
    wave: dict[str, Any] = {
        "lead_ids": list(range(1, count + 1)),
        "runs": [1] * count,
        "numbers": [1] * count,
        "envelope_ids": list(range(1, count + 1)),
        "tokens": [1] * count,
    }
    results = {
        "states": ["sent"] * count,
        "sent_ats": [NOW] * count,
        "errors": [None] * count,
        "provider_ids": [None] * count,
        "backoffs": [0] * count,
        "are_attempts": [True] * count,
        "counted": [1] * count,
    }
    for name in (
        "advance_leads",
        "claim_wave",
        "finish_messages",
        "list_claimed",
        "list_settled",
        "lock_lease",
        "lock_planned",
        "lock_wave",
    ):
        wanted = PLACEHOLDER.findall(db.query(name).decode())
        values = {key: {**wave, **results}[key] for key in wanted if key in wave | results}
        for plan in (
            explain(conn, name, values),
            explain_generic(conn, name, values),
        ):
            assert indexes_on_message(plan) == {"message_pkey"}, name
    for name, values in (
        ("close_day", {"day": date(2024, 2, 1)}),
        ("list_leads_with_late_messages", {"today": MONDAY}),
    ):
        plan = explain(conn, name, values)
        assert indexes_on_message(plan) == {"message_day"}, name
