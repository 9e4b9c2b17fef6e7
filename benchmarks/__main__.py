"""Run the benchmarks: `python -m benchmarks [--full] [--only NAME ...] [--pairs N]`."""

import argparse
import importlib
import sys
import traceback

from benchmarks.harness import Options, Row, Server, progress
from benchmarks.report import describe, print_table, write_results

MODULES = ("drain", "imports", "mail", "startup", "planner")


def main() -> int:
    """Run them, print a table, write RESULTS.md; 1 when a gate is missed or something broke."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--full", action="store_true", help="the long shapes")
    parser.add_argument("--only", nargs="+", choices=MODULES, default=MODULES, metavar="NAME")
    parser.add_argument("--pairs", type=int, default=5, help="pairs of runs for each ratio")
    given = parser.parse_args()
    options = Options(is_full=given.full, pairs=given.pairs)
    rows: list[Row] = []
    broken: list[str] = []
    with Server() as server:
        for name in given.only:
            progress(f"{name}:")
            try:
                for row in importlib.import_module(f"benchmarks.{name}").run(server, options):
                    rows.append(row)
                    progress(describe(row))
            except Exception:  # noqa: BLE001 - the others are still worth measuring
                traceback.print_exc()
                broken.append(name)
        write_results(server, rows, broken, " ".join(sys.argv[1:]))
    print_table(rows)
    for name in broken:
        print(f"{name} broke off; what it had measured is above")
    missed = [row.name for row in rows if not row.is_met]
    if missed:
        print(f"Missed: {', '.join(missed)}")
    return 1 if missed or broken else 0


if __name__ == "__main__":
    sys.exit(main())
