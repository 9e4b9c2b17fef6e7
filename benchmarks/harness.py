"""What every benchmark is made of: a server of its own, runs in turn, and rows with bars.

A module of this package has `run(server, options)`, which gives its rows one by one.
"""

import math
import os
import secrets
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from hyperdrip import embedded, fence, migrations

ENVIRONMENT = "production"
DAILY_MAX = 100_000_000
DURABLE = ("fsync", "full_page_writes", "synchronous_commit", "autovacuum")
# How sure the interval of a median is to hold the true one, at least (if there are enough pairs).
CONFIDENCE = 0.9


@dataclass(frozen=True)
class Options:
    """How long and how often. `pairs`: how many pairs of runs a ratio is the median of."""

    is_full: bool = False
    pairs: int = 5


@dataclass(frozen=True)
class Row:
    """One line of the results. Missing the gate fails the run; the goal is what we are after.

    `low` and `high` are the ends of an interval for `value`, if there is one.
    """

    name: str
    value: float
    low: float | None
    high: float | None
    gate: float | None
    goal: float | None
    is_higher_better: bool
    unit: str = ""
    note: str = ""

    @property
    def is_met(self) -> bool:
        """Is the gate met? A row without one always meets it; what is no number never does."""
        return self.gate is None or self._reaches(self.gate)

    @property
    def is_goal_met(self) -> bool:
        """Is the goal met?"""
        return self.goal is None or self._reaches(self.goal)

    def _reaches(self, bar: float) -> bool:
        return self.value >= bar if self.is_higher_better else self.value <= bar


@dataclass(frozen=True)
class Paired:
    """What came of running `a` and `b` in turn: `ratio` is the median of a/b over the pairs."""

    a: tuple[float, ...]
    b: tuple[float, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """a/b of each pair."""
        return tuple(one / other for one, other in zip(self.a, self.b, strict=True))

    @property
    def ratio(self) -> float:
        """The median of the paired ratios."""
        return statistics.median(self.ratios)

    @property
    def low(self) -> float:
        """The lower end of the interval around `ratio`."""
        return interval(self.ratios)[0]

    @property
    def high(self) -> float:
        """The upper end of the interval around `ratio`."""
        return interval(self.ratios)[1]

    @property
    def inverse(self) -> "Paired":
        """The same with b/a as its ratio: for figures of which less is better, as seconds are."""
        return Paired(self.b, self.a)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The narrowest pair of order statistics that holds the true median with CONFIDENCE.

    With fewer than five values no pair does; then it is the lowest and the highest.
    """
    ordered, n = sorted(values), len(values)
    best = 0
    for k in range(n // 2 + 1):  # the k lowest and the k highest are left out
        outside = 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n
        if 1 - outside >= CONFIDENCE:
            best = k
    return ordered[best], ordered[n - 1 - best]


def paired(
    a: Callable[[], float],
    b: Callable[[], float],
    *,
    pairs: int = 5,
    settle: Callable[[], object],
) -> Paired:
    """Run `a` and `b` in turn, A B B A, after a warm-up of each; `settle` before every run.

    Each returns one figure, a rate or the seconds of a unit.
    """
    figures = in_turn({"a": a, "b": b}, rounds=pairs, settle=settle)
    return Paired(tuple(figures["a"]), tuple(figures["b"]))


def in_turn(
    runs: dict[str, Callable[[], float]], *, rounds: int, settle: Callable[[], object]
) -> dict[str, list[float]]:
    """Run several in turn, forwards and backwards, after a warm-up of each: name -> figures."""
    figures: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        names = list(runs) if number % 2 else list(reversed(runs))
        for name in names:
            settle()
            figure = runs[name]()
            if number:
                figures[name].append(figure)
        if number:
            said = ", ".join(f"{name} {values[-1]:.4g}" for name, values in figures.items())
            progress(f"  {number}/{rounds}: {said}")
    return figures


def progress(text: str) -> None:
    """Say what is going on, on stderr."""
    print(text, file=sys.stderr, flush=True)


class Server:
    """An embedded PostgreSQL of its own, with everything on that keeps data safe.

    It is the one that `hyperdrip` brings, in a new folder that is gone at the end; its settings are
    the defaults. It does not stay behind when this process is killed.
    """

    def __init__(self) -> None:
        self._home = Path()
        self._held: embedded.EmbeddedServer | None = None
        self._template = ""

    def __enter__(self) -> Self:
        # Not /tmp: where that lies in memory, a flush to disk is none.
        folder = Path("/var/tmp")
        self._home = Path(
            tempfile.mkdtemp(prefix="hyperdrip-bench-", dir=folder if folder.is_dir() else None)
        )
        try:
            self._held = embedded.acquire(self._home, ENVIRONMENT)
            self._require_durable()
            self._template = self._make_template()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._remove()

    @property
    def log(self) -> Path:
        """The file that the server writes its log to."""
        return self._home / ENVIRONMENT / "server.log"

    @property
    def folder(self) -> Path:
        """The server's own folder; also a place for files of a benchmark."""
        return self._home

    @property
    def bin_folder(self) -> Path:
        """Where the server's programs lie."""
        assert self._held is not None
        return self._held.bin_folder

    def url(self, database: str) -> str:
        """The address of a database, as libpq, node-postgres and asyncpg take it."""
        assert self._held is not None
        parts = conninfo_to_dict(self._held.dsn)
        query = urlencode({"host": str(parts["host"])}, quote_via=quote)
        return f"postgresql://postgres@/{database}?{query}"

    def connect(self, url: str = "") -> psycopg.Connection[Any]:
        """An autocommit connection to a database; with no `url` to none of the benchmarks'."""
        return psycopg.connect(url or self.url("postgres"), autocommit=True)

    @contextmanager
    def database(self, prefix: str, *, template: str = "") -> Iterator[str]:
        """A fresh migrated database, gone at the end; yields its URL.

        `template`: the URL of another database to copy, to which nobody may be connected.
        """
        source = str(conninfo_to_dict(template)["dbname"]) if template else self._template
        with self._made(prefix, source) as url:
            with closing(self.connect(url)) as conn:  # a copy of another one sends nothing
                fence.unlock(conn, fence.read_fence(conn))
            yield url

    @contextmanager
    def empty_database(self, prefix: str) -> Iterator[str]:
        """A database with nothing in it, gone at the end; yields its URL."""
        with self._made(prefix, "template0") as url:
            yield url

    @contextmanager
    def copy(self, prefix: str, url: str) -> Iterator[str]:
        """A copy of a database to which nobody is connected, gone at the end; yields its URL."""
        with self._made(prefix, str(conninfo_to_dict(url)["dbname"])) as copied:
            yield copied

    def settle(self, url: str) -> None:
        """Leave nothing to do from before: VACUUM (ANALYZE) and CHECKPOINT."""
        with closing(self.connect(url)) as conn:
            conn.execute("vacuum (analyze)")
            conn.execute("checkpoint")

    def setting(self, name: str) -> str:
        """The value of a setting of the server."""
        with closing(self.connect()) as conn:
            row = conn.execute("select current_setting(%s)", [name]).fetchone()
        assert row is not None
        return str(row[0])

    def alter(self, name: str, value: str | None) -> None:
        """Change a setting for what is counted and not timed; None puts it back."""
        with closing(self.connect()) as conn:
            if value is None:
                conn.execute(sql.SQL("alter system reset {}").format(sql.Identifier(name)))
            else:
                conn.execute(
                    sql.SQL("alter system set {} = {}").format(sql.Identifier(name), value)
                )
            conn.execute("select pg_reload_conf()")

    @contextmanager
    def _made(self, prefix: str, source: str) -> Iterator[str]:
        name = f"{prefix}_{secrets.token_hex(4)}"
        self._copy(name, source)
        try:
            yield self.url(name)
        finally:
            with closing(self.connect()) as conn:
                conn.execute(
                    sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name))
                )

    def _copy(self, name: str, source: str) -> None:
        with closing(self.connect()) as conn:
            conn.execute(
                sql.SQL("create database {} template {} strategy file_copy").format(
                    sql.Identifier(name), sql.Identifier(source)
                )
            )

    def _make_template(self) -> str:
        name = "template_migrated"
        self._copy(name, "template0")
        with closing(self.connect(self.url(name))) as conn:
            migrations.migrate(conn, environment=ENVIRONMENT, time_zone="UTC", daily_max=DAILY_MAX)
        return name

    def _require_durable(self) -> None:
        for name in DURABLE:
            if self.setting(name) != "on":
                raise RuntimeError(f"{name} is off: nothing that this server does would count")

    def _remove(self) -> None:
        if self._held is not None:
            self._held.release()
            embedded.stop(self._home, ENVIRONMENT)
        shutil.rmtree(self._home, ignore_errors=True)


def cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
