"""A transaction of ones own: `Hyperdrip(conn=...)` and `hyperdrip.add_lead`, by the same rules."""

import json
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql
from psycopg.rows import dict_row, tuple_row
from psycopg.types.datetime import DateLoader
from psycopg.types.string import TextLoader

from hyperdrip import Hyperdrip, HyperdripError, queue, quota
from hyperdrip import instance as instances
from hyperdrip.db import connect
from hyperdrip.errors import (
    ConflictError,
    DatabaseError,
    InvalidDataError,
    NoRoomError,
    NotFoundError,
    SettingsError,
)
from hyperdrip.lead_values import check_new_lead
from hyperdrip.planning import Calendar, PastHorizon, plan
from tests.factories import (
    MONDAY,
    MORNING,
    SetClock,
    add_leads,
    assert_audit_ok,
    count_states,
    drain,
    make_settings,
)

README = Path(__file__).parents[2] / "README.md"

# The three doors. Each adds one lead and returns its id, in a transaction of its own.

SQLSTATES: Mapping[str, type[HyperdripError]] = {
    "22023": InvalidDataError,
    "23505": ConflictError,
    "25000": SettingsError,
    "42704": NotFoundError,
    "53400": NoRoomError,
}


class Refused(Exception):
    """A refusal, whichever door it came through."""

    def __init__(self, kind: type[HyperdripError], text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text


def add_in_sql(conn: psycopg.Connection[Any], **values: Any) -> int:
    """`select hyperdrip.add_lead(...)`, with only the arguments given."""
    if "fields" in values:
        values["fields"] = json.dumps(values["fields"])
    statement = sql.SQL("select hyperdrip.add_lead({})").format(
        sql.SQL(", ").join(
            sql.SQL("{} => {}").format(sql.Identifier(name), sql.Placeholder(name))
            for name in values
        )
    )
    # The types are unknown to the server, as they are when a person writes them.
    cursor = psycopg.ClientCursor(conn, row_factory=tuple_row)
    row = cursor.execute(statement, values).fetchone()
    assert row is not None
    return int(row[0])


@contextmanager
def refusals() -> Iterator[None]:
    try:
        yield
    except HyperdripError as error:
        raise Refused(type(error), str(error)) from error
    except psycopg.Error as error:
        kind = SQLSTATES.get(error.sqlstate or "")
        if kind is None:
            raise
        raise Refused(kind, str(error.diag.message_primary)) from error


def through_library(dsn: str, **values: Any) -> int:
    with Hyperdrip(dsn, make_settings(dsn, HYPERDRIP_NOW=MORNING)) as drip, refusals():
        return add_in_python(drip, **values)


def through_connection(dsn: str, **values: Any) -> int:
    with psycopg.connect(dsn, row_factory=dict_row) as conn, refusals():
        return add_in_python(borrow(conn), **values)


def through_sql(dsn: str, **values: Any) -> int:
    with psycopg.connect(dsn) as conn, refusals():
        conn.execute(f"set hyperdrip.now = '{MORNING}'")
        return add_in_sql(conn, **values)


DOORS: Mapping[str, Callable[..., int]] = {
    "library": through_library,
    "connection": through_connection,
    "sql": through_sql,
}


def add_in_python(drip: Hyperdrip, *, horizon_days: int = 365, **values: Any) -> int:
    """`add_lead` of the library; the horizon is a setting there."""
    explicit = {**asdict(drip.settings), "schedule_horizon_days": horizon_days}
    drip.settings = type(drip.settings)(**explicit)
    return drip.add_lead(**values).id


def borrow(conn: psycopg.Connection[Any], now: str = MORNING, **values: object) -> Hyperdrip:
    return Hyperdrip(conn=conn, settings=make_settings("", HYPERDRIP_NOW=now, **values))


def snapshot(conn: psycopg.Connection[Any]) -> dict[str, Any]:
    """Everything that adding a lead writes: rows, queues and envelopes."""
    tables = ("lead", "message", "quota_day", "lead_import", "import_row", "import_batch")
    found: dict[str, Any] = {
        name: conn.execute(
            sql.SQL("select to_jsonb(t) from {} as t order by 1").format(
                sql.Identifier("hyperdrip", name)
            )
        ).fetchall()
        for name in tables
    }
    for name in queue.list_names(conn):
        found[name] = conn.execute(
            sql.SQL("select msg_id, message, headers from {} order by 1").format(
                sql.Identifier("pgmq", f"q_{name}")
            )
        ).fetchall()
    return found


def wipe(conn: psycopg.Connection[Any]) -> None:
    """Begin anew: no lead, no day, no envelope; numbers start at 1. The queues stay."""
    conn.execute("truncate hyperdrip.lead, hyperdrip.message, hyperdrip.quota_day restart identity")
    for name in queue.list_names(conn):
        table = sql.Identifier("pgmq", f"q_{name}")
        conn.execute(sql.SQL("truncate {} restart identity").format(table))


def days_of(conn: psycopg.Connection[Any], lead_id: int) -> list[date]:
    rows = conn.execute(
        "select day from hyperdrip.message where lead_id = %s order by number", [lead_id]
    ).fetchall()
    return [day for (day,) in rows]


# The same rules


GOOD: Mapping[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "white space around": (
        {"name": " \u00a0Ada\u3000Marlowe\u2003\t", "email": "\u00a0ada@example.com \n"},
        {"name": "Ada\u3000Marlowe", "email": "ada@example.com"},
    ),
    "no-break space within": ({"name": "Ada\u00a0Marlowe"}, {"name": "Ada Marlowe"}),
    "other scripts": ({"name": "Zoë Ødegård 李"}, {"name": "Zoë Ødegård 李"}),
    "longest name": ({"name": "n" * 200}, {"name": "n" * 200}),
    "domain in capitals": ({"email": "Ada.M@EXAMPLE.Com"}, {"email": "Ada.M@example.com"}),
    "odd local part": ({"email": "a'd{a}!#$%&*+/=?^_`|~-1@example.com"}, {}),
    "long local part": ({"email": "a" * 80 + "@example.com"}, {}),
    "longest address": ({"email": "a" * 190 + "@" + "b" * 60 + ".de"}, {}),
    "longest label": ({"email": "a@" + "b" * 63 + ".de"}, {}),
    "digits and dashes": ({"email": "1@a-1.2b.c33--d.co"}, {}),
    "one-letter top level": ({"email": "a@b.c"}, {}),
    "test domain": ({"email": "a@b.test"}, {}),
    "test domain alone": ({"email": "a@test"}, {}),
    "phone": ({"phone": "\u00a0+1 (202) 555-01.43/7 "}, {"phone": "+1 (202) 555-01.43/7"}),
    "no phone": ({"phone": " \u00a0"}, {"phone": None}),
    "shortest phone": ({"phone": "112"}, {"phone": "112"}),
    "longest phone": ({"phone": "1" * 20 + " " * 19 + "-"}, {"phone": "1" * 20 + " " * 19 + "-"}),
    "notes": ({"notes": "\n line\r\n\ttab \u00a0x\n"}, {"notes": "line\r\n\ttab \u00a0x"}),
    "empty notes": ({"notes": " \n"}, {"notes": None}),
    "longest notes": ({"notes": "é" * 10_000}, {"notes": "é" * 10_000}),
    "fields": (
        {"fields": {" company ": " Northwind\nLtd ", "empty": "", "q'\"": "\\"}},
        {"fields": {"company": "Northwind\nLtd", "empty": "", "q'\"": "\\"}},
    ),
    "longest field": ({"fields": {"k" * 60: "v" * 2000}}, {"fields": {"k" * 60: "v" * 2000}}),
    "five messages": ({"max_messages": 5}, {"max_messages": 5}),
    "start later": ({"start": date(2024, 2, 29)}, {"start_on": "2024-02-29"}),
    "start today": ({"start": MONDAY}, {"start_on": "2024-01-15"}),
    "last day of the horizon": ({"max_messages": 3, "horizon_days": 2}, {}),
}


def test_a_value_is_stored_the_same_through_every_door(
    dsn: str, conn: psycopg.Connection[Any]
) -> None:
    for case, (given_values, stored) in GOOD.items():
        values = {"name": "Ada", "email": "ada@example.com", "max_messages": 1, **given_values}
        expected = {name: values[name] for name in ("name", "email")} | stored
        written = {}
        for door, add in DOORS.items():
            assert add(dsn, **values) == 1, (case, door)
            assert_audit_ok(conn)
            written[door] = snapshot(conn)
            (lead,) = written[door]["lead"][0]
            assert {name: lead[name] for name in expected} == expected, (case, door)
            # The clock of the library runs on.
            assert lead.pop("created_at").startswith("2024-01-15T09:00:")
            wipe(conn)
        assert written["library"] == written["connection"] == written["sql"], case


LONG_DAYS = {"max_messages": 3, "horizon_days": 1}

BAD: Mapping[str, tuple[dict[str, Any], type[HyperdripError], str]] = {
    "empty name": (
        {"name": " \u00a0\u2028"},
        InvalidDataError,
        "name is empty; every lead needs one",
    ),
    "long name": (
        {"name": "n" * 201},
        InvalidDataError,
        "name has 201 characters; at most 200 fit",
    ),
    "line break in name": ({"name": "Ada\r\nBcc: x"}, InvalidDataError, "name=.* or a line break"),
    "bell in name": ({"name": "Ada\x07"}, InvalidDataError, "name=.* has control characters"),
    "C1 in name": ({"name": "A\x85da"}, InvalidDataError, "name=.* has control characters"),
    "separator in name": (
        {"name": "A\u2028da"},
        InvalidDataError,
        "name=.* has control characters",
    ),
    "no address": ({"email": " "}, InvalidDataError, "email='' is no e-mail address: "),
    "no at sign": ({"email": "ada.example.com"}, InvalidDataError, "is no e-mail address: "),
    "two at signs": ({"email": "ada@b@example.com"}, InvalidDataError, "is no e-mail address: "),
    "no local part": ({"email": "@example.com"}, InvalidDataError, "is no e-mail address: "),
    "no domain": ({"email": "ada@"}, InvalidDataError, "is no e-mail address: "),
    "no top level": ({"email": "ada@example"}, InvalidDataError, "is no e-mail address: "),
    "number on top": ({"email": "ada@10.0.0.1"}, InvalidDataError, "is no e-mail address: "),
    "dot first": ({"email": ".ada@example.com"}, InvalidDataError, "is no e-mail address: "),
    "dot last": ({"email": "ada.@example.com"}, InvalidDataError, "is no e-mail address: "),
    "two dots": ({"email": "a..da@example.com"}, InvalidDataError, "is no e-mail address: "),
    "dots in domain": ({"email": "ada@example..com"}, InvalidDataError, "is no e-mail address: "),
    "dash first": ({"email": "ada@-example.com"}, InvalidDataError, "is no e-mail address: "),
    "dash last": ({"email": "ada@example-.com"}, InvalidDataError, "is no e-mail address: "),
    "reserved dashes": ({"email": "ada@ab--c.com"}, InvalidDataError, "is no e-mail address: "),
    "underscore in domain": (
        {"email": "a@ex_ample.com"},
        InvalidDataError,
        "is no e-mail address: ",
    ),
    "dot at the end": ({"email": "ada@example.com."}, InvalidDataError, "is no e-mail address: "),
    "space within": ({"email": "a da@example.com"}, InvalidDataError, "is no e-mail address: "),
    "display name": ({"email": "Ada <a@example.com>"}, InvalidDataError, "is no e-mail address: "),
    "quoted": ({"email": '"a b"@example.com'}, InvalidDataError, "is no e-mail address: "),
    "bracketed": ({"email": "ada@[10.0.0.1]"}, InvalidDataError, "is no e-mail address: "),
    "two addresses": ({"email": "a@b.com,c@d.com"}, InvalidDataError, "is no e-mail address: "),
    "line break": ({"email": "a@b.com\nBcc: c@d.com"}, InvalidDataError, "is no e-mail address: "),
    "local": ({"email": "ada@printer.local"}, InvalidDataError, "is no e-mail address: "),
    "invalid": ({"email": "ada@a.INVALID"}, InvalidDataError, "is no e-mail address: "),
    "label of 64": ({"email": f"a@{'b' * 64}.de"}, InvalidDataError, "is no e-mail address: "),
    "255 characters": (
        {"email": "a" * 191 + "@" + "b" * 60 + ".de"},
        InvalidDataError,
        "is no e-mail address: ",
    ),
    "huge address": ({"email": "a" * 2_000_000}, InvalidDataError, "is no e-mail address: "),
    "letters in phone": (
        {"phone": "555-CALL"},
        InvalidDataError,
        "phone='555-CALL' is no phone number",
    ),
    "two digits": ({"phone": "+1 2"}, InvalidDataError, "phone=.* is no phone number"),
    "21 digits": ({"phone": "1" * 21}, InvalidDataError, "phone=.* is no phone number"),
    "plus within": ({"phone": "1+202555"}, InvalidDataError, "phone=.* is no phone number"),
    "other digits": ({"phone": "٠١٢٣٤٥"}, InvalidDataError, "phone=.* is no phone number"),
    "long phone": (
        {"phone": "1" * 20 + " " * 20 + "-"},
        InvalidDataError,
        "phone has 41 characters; at most 40 fit",
    ),
    "huge notes": (
        {"notes": "n" * 2_000_000},
        InvalidDataError,
        "notes have 2000000 characters; at most 10000 fit",
    ),
    "bell in notes": ({"notes": "a\x07b"}, InvalidDataError, "notes have control characters; only"),
    "empty field name": ({"fields": {" ": "x"}}, InvalidDataError, "field name '' is empty"),
    "long field name": (
        {"fields": {"k" * 61: "x"}},
        InvalidDataError,
        "field name 'k{60}' is empty",
    ),
    "long field": (
        {"fields": {"k": "v" * 2001}},
        InvalidDataError,
        "field 'k' has 2001 characters; at most 2000 fit",
    ),
    "escape in field": ({"fields": {"k": "a\x1b"}}, InvalidDataError, "field 'k' has control"),
    "no messages": ({"max_messages": 0}, InvalidDataError, "max-messages=0 is not a number from 1"),
    "many messages": ({"max_messages": 10_000}, InvalidDataError, "max-messages=10000 is not"),
    "start in the past": (
        {"start": date(2024, 1, 14)},
        InvalidDataError,
        r"start=2024-01-14 is in the past; today is 2024-01-15 \(UTC\)",
    ),
    "unknown campaign": (
        {"campaign": "spring"},
        NotFoundError,
        "no campaign 'spring'; the built-in",
    ),
    "taken": (
        {"email": "BEN@example.com"},
        ConflictError,
        "address BEN@example.com belongs to lead_1 already; see: hyperdrip leads show lead_1",
    ),
    "phone taken": (
        {"phone": "0012025550143"},
        ConflictError,
        "phone 0012025550143 belongs to lead_1 already; see: hyperdrip leads show lead_1",
    ),
    "suppressed": (
        {"email": "Gone@Example.com"},
        InvalidDataError,
        r"email=Gone@example.com is suppressed \(unsubscribed\): never write to it",
    ),
    "erased": (
        {"email": "Erased@Example.com"},
        InvalidDataError,
        r"email=Erased@example.com is suppressed \(erased\): never write to it",
    ),
    "no room": (
        LONG_DAYS,
        NoRoomError,
        "no room before 2024-01-16 for 1 x 3 messages from 2024-01-15; the first day with room is"
        " 2024-01-16; fewer messages or an earlier start would fit",
    ),
    "room under another limit": (
        {"max_messages": 2, "horizon_days": 1},
        NoRoomError,
        "no room before 2024-01-16 for 1 x 2 messages from 2024-01-15; the first day with room is"
        " 2024-01-16; a daily maximum of 2 would fit .now 1.: hyperdrip quota set default 2",
    ),
    "start past the horizon": (
        {"start": date(2025, 2, 1)},
        NoRoomError,
        "no room before 2025-01-14 for 1 x 5 messages from 2025-02-01; the first day with room is"
        " 2025-02-01; fewer messages or an earlier start would fit",
    ),
}


def test_a_value_that_cannot_be_taken_is_refused_in_the_same_words_through_every_door(
    dsn: str, conn: psycopg.Connection[Any]
) -> None:
    instances.set_daily_max(conn, 1)
    ben = {"name": "Ben", "email": "ben@example.com", "phone": "+1 202 555-0143"}
    through_library(dsn, **ben, max_messages=1)
    conn.execute(
        "insert into hyperdrip.suppression values ('gone@example.com', 'unsubscribed'),"
        " ((hyperdrip.suppression_keys('erased@example.com'))[2], 'erased')"
    )
    before = snapshot(conn)
    for case, (given_values, kind, text) in BAD.items():
        values = {"name": "Ada", "email": "ada@example.com", **given_values}
        said = {}
        for door, add in DOORS.items():
            with pytest.raises(Refused) as caught:
                add(dsn, **values)
            assert caught.value.kind is kind, (case, door)
            assert re.search(text, caught.value.text), (case, door, caught.value.text)
            assert "\n" not in caught.value.text, (case, door)
            said[door] = caught.value.text
        assert said["library"] == said["connection"], case
        # Only the reason of a bad address, and how control characters are shown, are its own words.
        if "e-mail" not in text and "control" not in text and "break" not in text:
            assert said["library"] == said["sql"], case
        assert snapshot(conn) == before, case


@pytest.mark.parametrize(
    "email", ["zoë@example.com", "ada@münchen.de", "ada@xn--mnchen-3ya.de", "ada@例え.jp"]
)
def test_an_international_address_is_left_to_the_library(dsn: str, email: str) -> None:
    with pytest.raises(Refused, match="is international, which only hyperdrip add-lead takes"):
        through_sql(dsn, name="Ada", email=email)
    assert through_library(dsn, name="Ada", email=email)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"k": 5}, "field 'k' is of type number; fields are texts"),
        ({"k": None}, "field 'k' is of type null; fields are texts"),
        (["k"], 'fields are of type array; write an object such as {"company": "Northwind"}'),
    ],
)
def test_fields_in_sql_are_an_object_of_texts(dsn: str, fields: object, text: str) -> None:
    with pytest.raises(Refused) as caught:
        through_sql(dsn, name="Ada", email="ada@example.com", fields=fields)
    assert (caught.value.kind, caught.value.text) == (InvalidDataError, text)


_LOCAL = st.text(st.sampled_from("aZ09._-+'!"), min_size=1, max_size=8)
_DOMAIN = st.text(st.sampled_from("aZ0.-"), min_size=1, max_size=8)
_TOP = st.sampled_from(
    ["com", "c", "test", "local", "LocalHost", "onion", "arpa", "c0m", "9", "a-b"]
)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(local=_LOCAL, domain=_DOMAIN, top=_TOP)
def test_any_plain_address_has_the_same_verdict_in_python_and_sql(
    conn: psycopg.Connection[Any], local: str, domain: str, top: str
) -> None:
    email = f"{local}@{domain}.{top}"
    try:
        expected: str | None = check_new_lead(name="Ada", email=email).email
    except InvalidDataError:
        expected = None
    try:
        row = conn.execute("select hyperdrip.checked_email(%s)", [email]).fetchone()
        found = row[0] if row else None
    except psycopg.errors.InvalidParameterValue:
        found = None
    assert found == expected


# The same plan


@dataclass(frozen=True)
class Wish:
    """A lead that somebody adds: through which door, and with what."""

    door: str
    messages: int
    start: int | None
    campaign: str


WISHES = st.lists(
    st.builds(
        Wish,
        door=st.sampled_from(sorted(DOORS)),
        messages=st.integers(1, 6),
        start=st.none() | st.integers(0, 8),
        campaign=st.sampled_from(["default", "slow"]),
    ),
    min_size=3,
    max_size=8,
)
CAPACITIES = st.dictionaries(st.integers(0, 20), st.integers(0, 2), max_size=12)
HORIZON = 22


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(daily_max=st.integers(1, 3), capacities=CAPACITIES, wishes=WISHES)
def test_every_door_plans_as_the_planner_does(
    dsn: str,
    conn: psycopg.Connection[Any],
    daily_max: int,
    capacities: dict[int, int],
    wishes: list[Wish],
) -> None:
    wipe(conn)
    instances.set_daily_max(conn, daily_max)
    free = {MONDAY + timedelta(days=n): room for n, room in capacities.items()}
    for day, room in free.items():
        conn.execute("insert into hyperdrip.quota_day (day, capacity) values (%s, %s)", [day, room])
    conn.execute(
        "insert into hyperdrip.campaign (name, version) values ('slow', 1), ('slow', 2)"
        " on conflict do nothing;"
        "insert into hyperdrip.campaign_step"
        " (campaign, version, number, delay_days, subject, markdown) values"
        " ('slow', 1, 2, 9, '', ''), ('slow', 2, 1, 7, '', ''), ('slow', 2, 2, 1, '', ''),"
        " ('slow', 2, 3, 4, '', ''), ('slow', 2, 4, 1, '', ''), ('slow', 2, 5, 1, '', ''),"
        " ('slow', 2, 6, 1, '', '') on conflict do nothing"
    )
    calendar = Calendar(free, daily_max=daily_max)
    for number, wish in enumerate(wishes):
        start = None if wish.start is None else MONDAY + timedelta(days=wish.start)
        delays = ([7, 1, 4, 1, 1, 1] if wish.campaign == "slow" else [1] * 6)[: wish.messages]
        expected = plan(
            calendar,
            leads=1,
            delays=delays,
            start=start or MONDAY,
            last_day=MONDAY + timedelta(days=HORIZON),
        )
        values = {
            "name": "Ada",
            "email": f"ada{number}@example.com",
            "max_messages": wish.messages,
            "start": start,
            "campaign": wish.campaign,
            "horizon_days": HORIZON,
        }
        if isinstance(expected, PastHorizon):
            said = []
            for add in DOORS.values():
                with pytest.raises(Refused) as caught:
                    add(dsn, **values)
                assert caught.value.kind is NoRoomError
                said.append(caught.value.text)
            assert len(set(said)) == 1
            continue
        lead_id = DOORS[wish.door](dsn, **values)
        assert tuple(days_of(conn, lead_id)) == expected[0].days
        for day in expected[0].days:
            calendar.take(day)
    assert_audit_ok(conn)


@pytest.mark.own_sessions
def test_today_in_sql_is_the_day_of_the_zone_and_never_before_the_newest_day(
    new_database: Callable[..., str],
) -> None:
    dsn = new_database(time_zone="Pacific/Auckland")
    with connect(dsn) as conn:
        conn.execute("set hyperdrip.now = '2024-01-15T12:00:00Z'")
        conn.execute("set datestyle = 'German'")
        first = add_in_sql(conn, name="Ada", email="ada@example.com", max_messages=1)
        assert days_of(conn, first) == [date(2024, 1, 16)]
        instances.open_day(conn, date(2024, 1, 20))
        second = add_in_sql(conn, name="Ben", email="ben@example.com", max_messages=1)
        assert days_of(conn, second) == [date(2024, 1, 20)]
        assert_audit_ok(conn)


@pytest.mark.own_sessions
def test_only_a_test_environment_moves_the_clock_of_sql(new_database: Callable[..., str]) -> None:
    lead = {"name": "Ada", "email": "ada@example.com", "max_messages": 1}
    with connect(new_database(environment="production")) as conn:
        conn.execute("set hyperdrip.now = '2024-01-15T09:00:00Z'")
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="this one is production"):
            add_in_sql(conn, **lead)
        conn.execute("reset hyperdrip.now")
        lead_id = add_in_sql(conn, **lead)
        today = conn.execute("select (clock_timestamp() at time zone 'UTC')::date").fetchone()
        assert today in [(days_of(conn, lead_id)[0],), (days_of(conn, lead_id)[0] + timedelta(1),)]
    with connect(new_database()) as conn:
        conn.execute("set hyperdrip.now = '2024-01-15 09:00'")
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="no instant with offset"):
            add_in_sql(conn, **lead)


def test_sql_can_leave_the_address_out_of_the_envelopes(dsn: str, conn: psycopg.Connection) -> None:
    through_sql(dsn, name="Ada", email="ada@example.com", max_messages=1, with_email=False)
    (name,) = queue.list_names(conn)
    bodies = snapshot(conn)[name]
    body = {"leadId": "lead_1", "messageNumber": 1, "scheduledDate": "2024-01-15"}
    assert bodies == [(1, body, {"run": 1})]


# The caller's transaction


@contextmanager
def transactions(dsn: str, kind: str, *, is_kept: bool) -> Iterator[psycopg.Connection[Any]]:
    """A caller's connection with a transaction open, in each of the ways to open one."""
    conn: psycopg.Connection[Any] = psycopg.connect(
        dsn, autocommit=kind != "implicit", row_factory=dict_row
    )
    try:
        conn.execute("set hyperdrip.now = '2024-01-15T09:00:00Z'")
        if kind == "implicit":
            conn.commit()
            yield conn
            (conn.commit if is_kept else conn.rollback)()
        elif kind == "block":
            with conn.transaction(force_rollback=not is_kept):
                yield conn
        else:
            conn.execute("begin")
            yield conn
            conn.execute("commit" if is_kept else "rollback")
    finally:
        conn.close()


WAYS = pytest.mark.parametrize("kind", ["implicit", "block", "begin"])


@WAYS
@pytest.mark.parametrize("door", ["connection", "sql"])
def test_a_lead_that_is_rolled_back_leaves_nothing(
    dsn: str, conn: psycopg.Connection[Any], kind: str, door: str
) -> None:
    before = snapshot(conn)
    with transactions(dsn, kind, is_kept=False) as own:
        for n in range(2):
            lead = {"name": "Ada", "email": f"ada{n}@example.com"}
            if door == "sql":
                add_in_sql(own, **lead)
            else:
                borrow(own).add_lead(**lead)
        assert own.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
        # Nobody else sees anything of it yet.
        assert snapshot(conn) == before
    assert snapshot(conn) == before
    assert queue.list_names(conn) == []


@WAYS
@pytest.mark.parametrize("door", ["connection", "sql"])
@pytest.mark.own_sessions
def test_a_lead_that_is_committed_is_planned_and_sent_like_any_other(
    dsn: str, conn: psycopg.Connection[Any], kind: str, door: str
) -> None:
    instances.set_daily_max(conn, 2)
    add_leads(conn, 2, messages=1)
    with transactions(dsn, kind, is_kept=True) as own:
        own.execute("create table purchase (email text)")
        own.execute("insert into purchase values ('ada@example.com')")
        lead = {"name": "Ada", "email": "ada@example.com", "max_messages": 2}
        if door == "sql":
            add_in_sql(own, **lead)
        else:
            added = borrow(own).add_lead(**lead)
            assert (added.email, added.next_scheduled_for) == ("ada@example.com", date(2024, 1, 16))
    assert days_of(conn, 3) == [date(2024, 1, 16), date(2024, 1, 17)]
    assert conn.execute("select count(*) from purchase").fetchone() == (1,)
    assert_audit_ok(conn)

    sent = [drain(dsn, clock=SetClock(f"2024-01-{day}T09:00:00Z")).sent for day in (15, 16, 17)]
    assert sent == [2, 1, 1]
    statuses = "select status, count(*) from hyperdrip.lead group by 1"
    assert conn.execute(statuses).fetchall() == [("COMPLETED", 3)]
    assert_audit_ok(conn)


def test_without_a_transaction_each_method_commits(dsn: str, conn: psycopg.Connection[Any]) -> None:
    with connect(dsn) as own:
        drip = borrow(own)
        drip.add_lead(name="Ada", email="ada@example.com")
        assert not own.info.transaction_status
        with own.transaction(force_rollback=True):
            drip.add_lead(name="Ben", email="ben@example.com")
    assert count_states(conn) == {"planned": 5}
    assert_audit_ok(conn)


def test_an_error_undoes_its_own_work_and_leaves_the_transaction_usable(
    dsn: str, conn: psycopg.Connection[Any], tmp_path: Path
) -> None:
    sheet = tmp_path / "leads.csv"
    sheet.write_bytes(b"name,email\n" + b"Cyd,cyd@example.com\n" * 5 + b"x" * 2000 + b"\0,y\n")
    with psycopg.connect(dsn) as own:
        drip = borrow(own)
        drip.add_lead(name="Ada", email="ada@example.com")
        with pytest.raises(ConflictError):
            drip.add_lead(name="Ada", email="ADA@example.com")
        with pytest.raises(NoRoomError):
            drip.add_lead(
                name="Ben",
                email="ben@example.com",
                max_messages=365,
                start=MONDAY + timedelta(days=9),
            )
        with pytest.raises(InvalidDataError):
            drip.import_file(str(sheet))
        with pytest.raises(NotFoundError):
            drip.pause_leads(["lead_1", "lead_99"])
        drip.add_lead(name="Ben", email="ben@example.com")
    assert conn.execute("select email from hyperdrip.lead order by id").fetchall() == [
        ("ada@example.com",),
        ("ben@example.com",),
    ]
    assert_audit_ok(conn)


def change_everything(drip: Hyperdrip, folder: Path) -> None:
    """Every planner operation that works in a caller's transaction."""
    sheet = folder / "leads.csv"
    sheet.write_text("name,email\n" + "".join(f"L{n},l{n}@example.org\n" for n in range(20)))
    first, second, third, fourth = (lead.key for lead in drip.list_leads(limit=4))
    assert drip.pause_leads([first], reason="on holiday").lead_ids == (1,)
    assert drip.stop_leads([second], is_dry_run=True).lead_ids == (2,)
    assert drip.stop_leads([second]).lead_ids == (2,)
    assert drip.resume_leads([first]).lead_ids == (1,)
    assert drip.pause_leads([third]).lead_ids == (3,)
    assert drip.move_leads([fourth], by_days=30).messages == 5
    assert drip.enroll_leads([second], max_messages=2).lead_ids == (2,)
    assert drip.erase_leads([third]).lead_ids == (3,)
    assert drip.set_daily_max(2) > 0
    assert drip.set_capacity([MONDAY + timedelta(days=1)], 0) > 0
    result = drip.import_file(str(sheet), max_messages=3)
    assert (result.added, result.rejected) == (20, 0)
    assert result.import_id is not None
    assert drip.undo_import(result.import_id).removed == 20
    assert drip.import_file(str(sheet), max_messages=2).added == 20
    drip.add_lead(name="Ada", email="ada@example.com")
    drip.set_daily_max(5)
    drip.replan()
    assert drip.pause()
    assert drip.resume()


@pytest.mark.parametrize("is_kept", [True, False])
def test_every_planner_operation_works_inside_a_transaction(
    dsn: str, conn: psycopg.Connection[Any], tmp_path: Path, *, is_kept: bool
) -> None:
    add_leads(conn, 5)
    before = snapshot(conn)
    with transactions(dsn, "implicit", is_kept=is_kept) as own:
        drip = borrow(own)
        change_everything(drip, tmp_path)
        assert [check for check in drip.audit() if not check.ok] == []
        assert drip.database_status()["environment"] == "test"
        assert drip.quota_today()[0].scheduled > 0
        assert drip.list_queues(is_all=True)
        with drip.export_leads() as export:
            assert len(list(export.leads)) == export.count > 20
        drip.close()
        assert own.execute("select 1 as one").fetchone() == {"one": 1}
    assert_audit_ok(conn)
    if is_kept:
        assert count_states(conn)["planned"] > 40
    else:
        assert snapshot(conn) == before
        assert instances.require_instance(conn).daily_max == 100


class NoDates(DateLoader):
    def load(self, _data: Any) -> Any:
        raise AssertionError("the caller's own conversion was used")


@pytest.mark.own_sessions
def test_the_callers_settings_are_neither_used_nor_changed(dsn: str, tmp_path: Path) -> None:
    with psycopg.connect(
        dsn, row_factory=dict_row, cursor_factory=psycopg.ClientCursor, prepare_threshold=None
    ) as own:
        own.adapters.register_loader("date", NoDates)
        own.adapters.register_loader("jsonb", TextLoader)
        own.adapters.register_loader("int8", TextLoader)
        own.execute("set datestyle = 'German'")
        own.execute("set search_path = pg_temp")
        own.execute("set time zone 'Asia/Tokyo'")
        own.commit()
        factories = own.row_factory, own.cursor_factory, own.server_cursor_factory
        drip = borrow(own)
        lead = drip.add_lead(name="Ada", email="ada@example.com", fields={"company": "Northwind"})
        assert lead.fields == {"company": "Northwind"}
        assert lead.next_scheduled_for == MONDAY
        sheet = tmp_path / "leads.csv"
        sheet.write_text("name,email\nBen,ben@example.com\nBen,BEN@example.com\n")
        assert drip.import_file(str(sheet)).duplicates == 1
        drip.close()
        assert factories == (own.row_factory, own.cursor_factory, own.server_cursor_factory)
        assert (own.autocommit, own.isolation_level, own.prepare_threshold) == (False, None, None)
        own.commit()
        row = own.execute(
            "select id, fields, current_setting('datestyle') as style,"
            " current_setting('search_path') as path from hyperdrip.lead order by id limit 1"
        ).fetchone()
        assert row == {
            "id": "1",
            "fields": '{"company": "Northwind"}',
            "style": "German, DMY",
            "path": "pg_temp",
        }


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
@pytest.mark.own_sessions
def test_only_read_committed_is_planned_under(dsn: str, level: str) -> None:
    told = f"this transaction is {level} and Hyperdrip plans only under read committed"
    lead = {"name": "Ada", "email": "ada@example.com"}
    at_level = psycopg.IsolationLevel[level.replace(" ", "_").upper()]
    with psycopg.connect(dsn, autocommit=True) as own:
        drip = borrow(own)
        # Set for one transaction, with SQL or by the driver, or for the session.
        with own.transaction():
            own.execute(f"set transaction isolation level {level}")
            with pytest.raises(SettingsError, match=told):
                drip.add_lead(**lead)
            with pytest.raises(SettingsError, match=told):
                borrow(own)
        with own.transaction():
            own.execute(f"set transaction isolation level {level}")
            with pytest.raises(psycopg.errors.InvalidTransactionState, match=told):
                add_in_sql(own, **lead)
            raise psycopg.Rollback
        own.isolation_level = at_level
        with pytest.raises(SettingsError, match=told):
            drip.add_lead(**lead)
        with pytest.raises(SettingsError, match=told):
            borrow(own)
        own.isolation_level = None
        own.execute(f"set default_transaction_isolation = '{level}'")
        with pytest.raises(SettingsError, match=told):
            drip.add_lead(**lead)
        own.execute("reset default_transaction_isolation")
        drip.add_lead(**lead)
        assert_audit_ok(own)


@pytest.mark.parametrize("method", ["migrate", "reset", "roll_over", "run_worker", "run_psql"])
def test_what_commits_as_it_goes_says_so_on_a_callers_connection(
    conn: psycopg.Connection[Any], method: str
) -> None:
    arguments = [[]] if method == "run_psql" else []
    with pytest.raises(SettingsError, match=rf"^{method}\(\) commits as it goes .*Hyperdrip.open"):
        getattr(borrow(conn), method)(*arguments)


def test_a_transaction_that_has_failed_reads_only_or_waits_too_long_is_told_in_one_line(
    dsn: str, conn: psycopg.Connection[Any]
) -> None:
    lead = {"name": "Ada", "email": "ada@example.com"}
    with psycopg.connect(dsn) as own:
        drip = borrow(own)
        with pytest.raises(psycopg.errors.DivisionByZero):
            own.execute("select 1 / 0")
        with pytest.raises(
            DatabaseError, match=r"^the database refused: current transaction is abo"
        ):
            drip.add_lead(**lead)
        own.rollback()
        own.execute("set transaction read only")
        with pytest.raises(DatabaseError, match=r"^the database does not allow this: cannot exec"):
            drip.add_lead(**lead)
        own.rollback()
        with conn.transaction():
            quota.lock_planner(conn)
            own.execute("set local lock_timeout = '20ms'")
            with pytest.raises(DatabaseError, match=r"^the database gave up: canceling statement"):
                drip.add_lead(**lead)
        own.rollback()
        drip.add_lead(**lead)


def test_a_transaction_does_not_create_hundreds_of_queues(
    dsn: str, conn: psycopg.Connection[Any]
) -> None:
    many = {"name": "Ada", "email": "ada@example.com", "max_messages": 101}
    told = "101 queues are missing and one transaction creates at most 100; "
    for door in ("connection", "sql"):
        with pytest.raises(Refused, match=told):
            DOORS[door](dsn, **many)
    assert queue.list_names(conn) == []
    through_sql(dsn, **{**many, "max_messages": 100})
    add_leads(conn, 1, messages=101)
    through_connection(dsn, **{**many, "email": "ben@example.com"})
    assert_audit_ok(conn)


# Everybody at once


@dataclass
class Crowd:
    """Threads that start together and report what went wrong."""

    threads: list[threading.Thread] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)

    def add(self, count: int, work: Callable[[int], None]) -> None:
        def run(number: int) -> None:
            try:
                work(number)
            except BaseException as error:  # noqa: BLE001
                self.errors.append(error)

        self.threads += [threading.Thread(target=run, args=(n,)) for n in range(count)]

    def run(self) -> None:
        for thread in self.threads:
            thread.start()
        for thread in self.threads:
            thread.join(120)
            assert not thread.is_alive()
        assert self.errors == []


@pytest.mark.own_sessions
def test_everybody_adds_at_once_and_no_day_holds_more_than_its_limit(
    dsn: str, conn: psycopg.Connection[Any]
) -> None:
    instances.set_daily_max(conn, 7)
    total = 25 * 4 + 5 * 4 + 5 * 4

    # Two leads in each transaction: the second call meets whatever the first one still holds.
    def in_sql(number: int) -> None:
        with psycopg.connect(dsn) as own:
            own.execute("set hyperdrip.now = '2024-01-15T09:00:00Z'")
            own.commit()
            for n in range(4):
                add_in_sql(own, name="S", email=f"s{number}-{n}@example.com", max_messages=3)
                if n % 2:
                    own.commit()

    def on_own_connection(number: int) -> None:
        with psycopg.connect(dsn, row_factory=dict_row) as own:
            drip = borrow(own)
            for n in range(4):
                drip.add_lead(name="C", email=f"c{number}-{n}@example.com", max_messages=3)
                if n % 2:
                    own.commit()

    def in_library(_number: int) -> None:
        with connect(dsn) as own:
            for _ in range(4):
                add_leads(own, 1, messages=3)

    sent = []
    crowd = Crowd()
    crowd.add(25, in_sql)
    crowd.add(5, on_own_connection)
    crowd.add(5, in_library)
    crowd.add(2, lambda _: sent.append(drain(dsn).sent))
    crowd.run()

    assert_audit_ok(conn)
    taken = conn.execute(
        "select reserved + sent from hyperdrip.quota_day where reserved + sent > 0 order by day"
    ).fetchall()
    # First come, first served: day by day to the brim, but for what nobody could fill any more.
    assert sum(count for (count,) in taken) == 3 * total
    assert max(count for (count,) in taken) == 7
    assert sum(count < 7 for (count,) in taken) <= 3
    assert sum(sent) <= 7


def test_two_transactions_that_need_each_others_queues_do_not_wait_for_each_other(
    dsn: str, conn: psycopg.Connection[Any]
) -> None:
    instances.set_daily_max(conn, 1)

    def add_three(number: int) -> None:
        with psycopg.connect(dsn) as own:
            own.execute("set hyperdrip.now = '2024-01-15T09:00:00Z'")
            drip = borrow(own)
            for n in range(3):
                lead = {"name": "L", "email": f"l{number}-{n}@example.com", "max_messages": 2}
                if (number + n) % 2:
                    add_in_sql(own, **lead)
                else:
                    drip.add_lead(**lead)

    crowd = Crowd()
    crowd.add(12, add_three)
    crowd.run()
    assert len(queue.list_names(conn)) == 72
    assert_audit_ok(conn)


# The README


def test_the_examples_of_the_readme_for_a_transaction_of_ones_own_work(
    dsn: str, conn: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = README.read_text()
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (python,) = [body for kind, body in blocks if kind == "python" and "Hyperdrip(conn=" in body]
    (script,) = [body for kind, body in blocks if kind == "sql" and "hyperdrip.add_lead" in body]
    conn.execute("create table purchase (email text)")
    monkeypatch.setitem(os.environ, "DATABASE_URL", dsn)
    monkeypatch.setitem(os.environ, "HYPERDRIP_ENV", "test")
    exec(compile(python, str(README), "exec"), {})
    conn.execute(script.encode())
    assert conn.execute("select count(*) from purchase").fetchone() == (2,)
    assert conn.execute("select count(*) from hyperdrip.lead").fetchone() == (2,)
    assert_audit_ok(conn)
