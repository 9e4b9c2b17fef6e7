"""Other job queues on PostgreSQL, installed for the benchmark alone, under benchmarks/.peers."""

from collections.abc import Iterator


def versions() -> Iterator[tuple[str, str]]:
    """The version of each peer that is installed."""
    yield from ()
