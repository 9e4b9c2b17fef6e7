"""The harness can see: each broken variant is caught by the check that passes the real code.

A variant is a patch in `variants/`, applied to a copy of the tree.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.scenarios import CAUGHT_BY, Fresh

ROOT = Path(__file__).parents[2]
VARIANTS = Path(__file__).parent / "variants"

# What the check says of each, in part.
SAYS = {
    "all_or_nothing_finish": "repeated",
    "archive_on_its_own": "audit: every planned message has its envelope",
    "check_then_write_quota": "quota: 40 left on 2024-01-15, 20 may",
    "claim_in_one_statement": "sent after it was stopped",
    "drop_queue_at_midnight": "audit: every planned message has its envelope",
    "finish_before_send": "lost: sent says the ledger, and the sink never saw",
    "no_fence": "repeated",
    "retry_on_unknown": "repeated",
}


def test_each_variant_has_a_scenario() -> None:
    assert sorted(CAUGHT_BY) == sorted(SAYS) == sorted(p.stem for p in VARIANTS.glob("*.patch"))


@pytest.mark.parametrize("variant", sorted(SAYS))
def test_the_check_catches(variant: str, fresh: Fresh) -> None:
    tree = fresh.subfolder()
    for name in ("hyperdrip", "sql", "tests"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    patch = ["git", "apply", "--unidiff-zero", VARIANTS / f"{variant}.patch"]
    subprocess.run(patch, cwd=tree, check=True, env={**os.environ, "GIT_DIR": "/nowhere"})
    arguments = [variant, fresh.server.dsn, fresh.server.word, str(fresh.folder)]

    said = subprocess.run(
        [sys.executable, "-m", "tests.faults.scenarios", *arguments],
        cwd=tree,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert said.returncode == 0, said.stderr
    print(said.stdout)
    assert SAYS[variant] in said.stdout
