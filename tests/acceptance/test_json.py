"""The JSON that others build on: shapes, keys in their order, types."""

from typing import Any

import psycopg
import pytest

from tests.acceptance.commands import Commands

pytestmark = pytest.mark.usefixtures("within_this_process")

LEAD_KEYS = [
    "id",
    "name",
    "email",
    "phone",
    "notes",
    "fields",
    "campaign",
    "maxMessages",
    "messageCount",
    "lastSentAt",
    "nextScheduledFor",
    "status",
    "statusReason",
    "createdAt",
]
DAY_KEYS = ["day", "capacity", "scheduled", "sent", "free"]


@pytest.fixture
def lead(commands: Commands) -> dict[str, Any]:
    """What add-lead printed of a lead with everything."""
    found: dict[str, Any] = commands.json(
        "add-lead",
        *("--name", "Élif Şahin", "--email", "Elif@Example.com", "--phone", "+1 202-555-0105"),
        *("--notes", "two\nlines", "--field", "company=A=B", "--field", "tier=gold"),
        *("--max-messages", "2", "--start", "2024-01-16"),
    )
    return found


def test_a_lead(commands: Commands, lead: dict[str, Any]) -> None:
    assert list(lead) == [*LEAD_KEYS, "messages"]
    created_at = lead.pop("createdAt")
    assert lead == {
        "id": "lead_1",
        "name": "Élif Şahin",
        "email": "Elif@example.com",
        "phone": "+1 202-555-0105",
        "notes": "two\nlines",
        "fields": {"company": "A=B", "tier": "gold"},
        "campaign": "default",
        "maxMessages": 2,
        "messageCount": 0,
        "lastSentAt": None,
        "nextScheduledFor": "2024-01-16",
        "status": "ACTIVE",
        "statusReason": None,
        "messages": [
            {"number": 1, "scheduledDate": "2024-01-16", "state": "planned", "sentAt": None},
            {"number": 2, "scheduledDate": "2024-01-17", "state": "planned", "sentAt": None},
        ],
    }
    assert created_at.startswith("2024-01-15T09:00:0")
    assert created_at.endswith("Z")

    shown = commands.json("leads", "show", "ELIF@example.com")
    assert list(shown) == [*LEAD_KEYS, "messages"]
    assert shown == {**lead, "createdAt": created_at}
    for key in ("1", "lead_1"):
        assert commands.json("leads", "show", key) == shown
    [listed] = commands.json("leads", "list")
    assert list(listed) == LEAD_KEYS
    assert listed == {name: shown[name] for name in LEAD_KEYS}


def test_a_process_prints_the_same(commands: Commands, lead: dict[str, Any]) -> None:
    arguments = ("leads", "show", lead["id"], "--json")
    commands.is_within = False
    assert commands.run(*arguments) == commands.within.run(*arguments)


@pytest.mark.usefixtures("lead")
def test_messages_a_worker_and_a_day(commands: Commands) -> None:
    now = {"HYPERDRIP_NOW": "2024-01-16T09:00:00Z"}
    summary = commands.json("worker", "--drain", "--message-delay", "0", **now)
    assert list(summary.items()) == [
        ("sent", 1),
        ("failed", 0),
        ("retried", 0),
        ("unknown", 0),
        ("skipped", 0),
        ("rolledOver", 0),
        ("waiting", 0),
        ("nextAttemptAt", None),
        ("quotaReached", False),
    ]

    first, second = commands.json("messages", "list", **now)
    sent_at = first.pop("sentAt")
    assert sent_at.startswith("2024-01-16T09:00:0")
    assert sent_at.endswith("Z")
    assert first == {
        "lead": "lead_1",
        "email": "Elif@example.com",
        "campaign": "default",
        "run": 1,
        "number": 1,
        "scheduledDate": "2024-01-16",
        "state": "sent",
        "attempts": 1,
        "sender": "console",
        "error": None,
    }
    assert list(second) == [
        *("lead", "email", "campaign", "run", "number", "scheduledDate", "state", "attempts"),
        *("sender", "sentAt", "error"),
    ]
    assert second["state"] == "planned"
    assert list(commands.json("messages", "show", "1", "1", **now))[:11] == list(second)
    assert commands.json("leads", "show", "1", **now)["lastSentAt"] == sent_at

    today = commands.json("quota", "today", **now)
    assert list(today.items()) == [
        ("day", "2024-01-16"),
        ("timeZone", "UTC"),
        ("dailyMax", 100),
        ("capacity", 100),
        ("sent", 1),
        ("scheduled", 0),
        ("remaining", 99),
        ("nextAvailableDay", "2024-01-16"),
    ]


@pytest.mark.usefixtures("lead")
def test_the_calendar_and_the_queues(commands: Commands) -> None:
    commands.run("quota", "set", "2024-01-16", "1")
    plan = commands.json("plan")
    assert [list(day) for day in plan] == [DAY_KEYS] * 3
    assert plan[1] == {"day": "2024-01-16", "capacity": 1, "scheduled": 1, "sent": 0, "free": 0}
    assert commands.json("quota", "show", "--days", "3") == plan
    assert commands.json("quota", "today", HYPERDRIP_NOW="2024-01-16T09:00:00Z") == {
        "day": "2024-01-16",
        "timeZone": "UTC",
        "dailyMax": 100,
        "capacity": 1,
        "sent": 0,
        "scheduled": 1,
        "remaining": 0,
        "nextAvailableDay": "2024-01-17",
    }

    queues = commands.json("queues", "show", HYPERDRIP_NOW="2024-01-17T01:00:00Z")
    assert [list(queue.items()) for queue in queues] == [
        [
            ("queue", f"test-drip-messages-2024-01-{day}"),
            ("day", f"2024-01-{day}"),
            ("length", 1),
            ("visible", 1),
            ("total", 1),
            ("archived", 0),
            ("lateSeconds", late),
        ]
        for day, late in ((16, 3600), (17, None))
    ]


def test_queues_show_the_open_days_and_the_coming_14_unless_all_are_asked_for(
    commands: Commands,
) -> None:
    for start in ("2024-01-15", "2024-01-29", "2024-01-30"):
        commands.run(
            *("add-lead", "--name", "A", "--email", f"a{start}@example.com"),
            *("--start", start, "--max-messages", "1"),
        )
    assert [queue["day"] for queue in commands.json("queues", "show")] == [
        "2024-01-15",
        "2024-01-29",
    ]
    assert len(commands.json("queues", "show", "--all")) == 3

    after = {"HYPERDRIP_NOW": "2024-01-16T09:00:00Z", "WORKER_MESSAGE_DELAY": 0}
    assert commands.json("worker", "--drain", **after)["rolledOver"] == 1
    assert [queue["day"] for queue in commands.json("queues", "show", **after)] == [
        "2024-01-16",
        "2024-01-29",
        "2024-01-30",
    ]


def test_an_import(commands: Commands) -> None:
    (commands.folder / "leads.csv").write_text(
        "Name,EMAIL,city\nAda,ada@example.com,Oslo\nBob,not an address,\nCy,ADA@example.com,\n"
    )
    done = commands.run("import", "leads.csv", "--max-messages", "2", "--json", code=5)
    assert list(done.json.items()) == [
        ("importId", 1),
        ("read", 3),
        ("added", 1),
        ("updated", 0),
        ("duplicates", 1),
        ("rejected", 1),
        ("firstDay", "2024-01-15"),
        ("lastDay", "2024-01-16"),
        ("suppressed", 0),
        ("enrolled", 0),
    ]
    assert "line 3: email='not an address'" in done.err
    assert commands.json("leads", "list")[0]["fields"] == {"city": "Oslo"}

    (commands.folder / "again.csv").write_text("name,email\nAda,ada@example.com\n")
    again = commands.json("import", "again.csv")
    assert (again["added"], again["duplicates"], again["firstDay"]) == (0, 1, None)


def test_suppressions(commands: Commands, conn: psycopg.Connection) -> None:
    assert commands.json("suppressions", "list") == []
    added = commands.json("suppressions", "add", "Ada@Example.com", "--reason", "by phone")
    assert list(added.items()) == [
        ("read", 1),
        ("added", 1),
        ("known", 0),
        ("rejected", 0),
        ("stopped", []),
        ("cancelled", 0),
        ("dryRun", False),
    ]
    conn.execute("insert into hyperdrip.suppression values ('sha256:00', 'erased', '2024-01-01')")
    plain, hashed = commands.json("suppressions", "list")
    assert plain.pop("createdAt").startswith("2024-01-15T09:00:0")
    assert list(plain.items()) == [
        ("address", "ada@example.com"),
        ("hash", None),
        ("reason", "by phone"),
    ]
    assert list(hashed.items()) == [
        ("address", None),
        ("hash", "sha256:00"),
        ("reason", "erased"),
        ("createdAt", "2024-01-01T00:00:00.000000Z"),
    ]
    removed = commands.json("suppressions", "remove", "ada@EXAMPLE.com")
    assert removed == {"removed": "ada@example.com", "reasons": ["by phone"]}
    commands.run("add-lead", "--name", "Ada", "--email", "ada@example.com")
    left = commands.json("unsubscribe", "lead_1")
    assert list(left.items()) == [("lead", "lead_1"), ("new", True), ("cancelled", 5)]


@pytest.mark.usefixtures("lead")
def test_an_audit_prints_what_it_found_before_it_fails(
    commands: Commands, conn: psycopg.Connection
) -> None:
    good = commands.json("audit")
    assert list(good) == ["ok", "checks"]
    assert good["ok"] is True
    assert {tuple(check) for check in good["checks"]} == {("name", "ok", "detail")}
    assert all(check["ok"] and check["detail"] == "" for check in good["checks"])

    conn.execute("update hyperdrip.quota_day set reserved = reserved + 1 where day = '2024-01-16'")
    bad = commands.run("audit", "--json", code=7)
    assert bad.json["ok"] is False
    [broken] = [check for check in bad.json["checks"] if not check["ok"]]
    assert broken["name"] == "quota counters equal the ledger"
    assert broken["detail"].startswith("2024-01-16: 2 reserved and 1 planned")
    assert bad.err == "error: the tables contradict each other: quota counters equal the ledger\n"


def test_everything_else_that_prints_data(commands: Commands) -> None:
    assert commands.json("leads", "list") == []
    assert commands.json("messages", "list") == []
    assert commands.json("queues", "show") == []
    assert commands.json("pause") == {"paused": True, "changed": True}
    assert commands.json("pause") == {"paused": True, "changed": False}
    assert commands.json("resume") == {"paused": False, "changed": True}
    assert commands.json("db", "migrate") == {"applied": []}
    assert commands.json("rollover")["rolledOver"] == 0
    assert commands.json("quota", "set", "default", "9") == {"days": None, "limit": 9, "moved": 0}
    assert commands.json("db", "status")["dailyMax"] == 9


def test_a_list_stops_at_its_limit(commands: Commands) -> None:
    rows = "".join(f"L{n},l{n}@example.com\n" for n in range(101))
    (commands.folder / "leads.csv").write_text(f"name,email\n{rows}")
    commands.run("import", "leads.csv")
    for kind in ("leads", "messages"):
        assert len(commands.json(kind, "list")) == 100
        assert len(commands.json(kind, "list", "--limit", "3")) == 3
    assert len(commands.json("leads", "list", "--limit", "200")) == 101
