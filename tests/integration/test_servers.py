"""Databases with manners of their own: what is borne, and what is refused in one line."""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from hyperdrip import Hyperdrip, db
from hyperdrip.errors import DatabaseError
from hyperdrip.limits import Change
from tests.factories import MONDAY, add_leads, assert_audit_ok, drain


@pytest.mark.parametrize(
    ("setting", "value"),
    [("datestyle", "German"), ("default_transaction_isolation", "repeatable read")],
)
def test_a_database_may_write_days_and_isolate_as_it_likes(
    admin: psycopg.Connection,
    dsn: str,
    drip: Callable[..., Hyperdrip],
    setting: str,
    value: str,
) -> None:
    name = sql.Identifier(str(conninfo_to_dict(dsn)["dbname"]))
    admin.execute(
        sql.SQL("alter database {} set {} = {}").format(name, sql.Identifier(setting), value)
    )
    one = drip()
    lead = one.add_lead(name="Ada", email="ada@example.com", max_messages=2)
    assert [message.day for message in one.list_lead_messages(lead)] == [MONDAY, date(2024, 1, 16)]
    assert drain(dsn).sent == 1
    assert one.list_lead_messages(lead)[0].sent_at is not None
    with closing(db.connect(dsn)) as conn:
        assert_audit_ok(conn)


@pytest.fixture
def latin_dsn(admin: psycopg.Connection, dsn: str) -> Iterator[str]:
    name = f"{conninfo_to_dict(dsn)['dbname']}_latin"
    admin.execute(
        sql.SQL(
            "create database {} encoding 'LATIN1' locale_provider libc lc_collate 'C'"
            " lc_ctype 'C' template template0"
        ).format(sql.Identifier(name))
    )
    yield make_conninfo(dsn, dbname=name)
    admin.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def test_a_database_that_is_not_utf8_is_refused(latin_dsn: str) -> None:
    with pytest.raises(DatabaseError, match="is in LATIN1, and names and texts need UTF8"):
        db.connect(latin_dsn)


def test_an_answer_that_is_not_in_sight_still_shows_the_calendar_as_it_is(
    conn: psycopg.Connection, drip: Callable[..., Hyperdrip]
) -> None:
    add_leads(conn, 3, messages=2)
    one = drip()
    one.set_limits(Change(capacities={date(2024, 3, 1): 5}))
    found = one.forecast(add=1, start=date(9999, 12, 31))
    assert (found.last_day, found.fits) == (None, False)
    assert [(day.day, day.scheduled) for day in found.days] == [
        (MONDAY, 3),
        (date(2024, 1, 16), 3),
    ]
