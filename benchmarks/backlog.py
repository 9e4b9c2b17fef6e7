"""Databases with messages that are due today: made once by the real import, copied for each run."""

import csv
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from benchmarks.harness import ENVIRONMENT, Server
from hyperdrip import Hyperdrip, queue
from hyperdrip.settings import Settings, parse


def settings_of(url: str, **values: object) -> Settings:
    """Settings as `hyperdrip worker --sender null --message-delay 0` has them."""
    given = {"DATABASE_URL": url, "SENDER": "null", "WORKER_MESSAGE_DELAY": "0"}
    given.update({name: str(value) for name, value in values.items()})
    return parse(given, default_home=Path("/nowhere"))


def queue_of_today() -> str:
    """The name of today's queue."""
    return queue.name_of(ENVIRONMENT, datetime.now(UTC).date())


def write_leads(file: Path, count: int, *, first: int = 1) -> None:
    """Write a CSV file of made-up leads, each with a phone number and two further fields."""
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(("name", "email", "phone", "company", "city"))
        writer.writerows(
            (
                f"Lead Number {number}",
                f"lead{number}@example.com",
                f"+1202{number:08d}",
                f"Company {number % 5000}",
                f"City {number % 300}",
            )
            for number in range(first, first + count)
        )


def add_leads(
    url: str,
    file: Path,
    count: int,
    *,
    first: int = 1,
    max_messages: int = 5,
    start: date | None = None,
) -> None:
    """Import made-up leads, as `hyperdrip import` does it."""
    write_leads(file, count, first=first)
    with closing(Hyperdrip(url, settings_of(url))) as drip:
        result = drip.import_file(str(file), max_messages=max_messages, start=start)
    file.unlink()
    if result.added != count:
        raise RuntimeError(f"{result.added} of {count} made-up leads were added")


@contextmanager
def backlog(server: Server, count: int, *, max_messages: int = 5) -> Iterator[str]:
    """A database in which each of `count` leads has its first message due today; yields its URL."""
    with server.database("backlog") as url:
        add_leads(url, server.folder / "leads.csv", count, max_messages=max_messages)
        server.settle(url)
        yield url


@dataclass
class Stage:
    """A fresh copy of a database for each run: `settle` makes the next one, settled, at `url`."""

    server: Server
    template: str
    url: str = ""

    def __post_init__(self) -> None:
        self._current = ExitStack()

    def __enter__(self) -> "Stage":
        return self

    def __exit__(self, *_: object) -> None:
        self._current.close()

    def settle(self) -> None:
        """Drop the last copy, make another one and leave nothing to do in it."""
        self._current.close()
        self.url = self._current.enter_context(
            self.server.database("stage", template=self.template)
        )
        self.server.settle(self.url)
