"""People at work while everything breaks: they add, pause, resume, stop and move leads."""

import random
import threading
from collections.abc import Callable
from typing import Any

import psycopg

from hyperdrip import rollover, standing
from hyperdrip.errors import HyperdripError
from hyperdrip.moving import Move, move_leads
from hyperdrip.rollover import Policy
from tests.factories import add_leads
from tests.faults.fleet import Pace, PacedClock

SOME = 20


def plan_at_random(
    connect: Callable[[], psycopg.Connection[Any]],
    pace: Pace,
    chance: random.Random,
    *,
    is_over: threading.Event,
) -> None:
    """One person, until it is over. Whoever loses the server comes back."""
    while not is_over.wait(chance.uniform(0.05, 0.6)):
        try:
            with connect() as conn:
                while not is_over.wait(chance.uniform(0.05, 0.6)):
                    _plan_once(conn, PacedClock(pace), chance)
        except (psycopg.Error, HyperdripError):
            continue


def _plan_once(conn: psycopg.Connection[Any], clock: PacedClock, chance: random.Random) -> None:
    rows = conn.execute("select max(id) from hyperdrip.lead").fetchone()
    newest = rows[0] if rows else 0
    some = sorted(chance.sample(range(1, newest + 1), min(newest, SOME)))
    match chance.randrange(6):
        case 0:
            add_leads(conn, chance.randint(1, 40), messages=chance.randint(1, 5), clock=clock)
        case 1:
            standing.pause_leads(conn, clock, some, reason=None)
        case 2:
            paused = conn.execute(
                "select id from hyperdrip.lead where status = 'PAUSED' order by id limit 100"
            ).fetchall()
            standing.resume_leads(conn, clock, [i for (i,) in paused], with_email=True)
        case 3:
            standing.stop_leads(conn, clock, some[:3], reason="replied")
        case 4:
            later = Move(by_days=chance.randint(1, 3))
            move_leads(conn, clock, some, later, horizon_days=365, with_email=True)
        case 5:
            rollover.roll_over(conn, clock, Policy(on_unknown="hold"))
