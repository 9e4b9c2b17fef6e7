"""Every fault, done to the real code: nothing is lost, nothing repeated, nothing exceeded.

Workers are killed, and lines cut, at every round trip: a quarter of them in `make test`, all of
them in `make test-all`.
"""

from collections.abc import Callable

import pytest

from tests.faults import scenarios
from tests.faults.proxy import Fate
from tests.faults.scenarios import Fresh
from tests.faults.sink import Conduct

PARTS = 4
FATES = [Fate.KILL, Fate.CUT, Fate.SWALLOW]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fate", "part"),
    [
        pytest.param(fate, part, marks=[pytest.mark.long] if part else [])
        for fate in FATES
        for part in range(PARTS)
    ],
)
def test_a_fault_at_any_round_trip_of_a_worker_breaks_no_promise(
    fresh: Fresh, fate: Fate, part: int
) -> None:
    found = {
        number: violations
        for number in range(1 + part, scenarios.count_steps(fresh) + 1, PARTS)
        if (violations := scenarios.damaged_step(fresh, number, fate))
    }
    assert found == {}


@pytest.mark.parametrize("conduct", [c for c in Conduct if c is not Conduct.ACCEPT])
def test_a_fault_at_any_hand_over_breaks_no_promise(fresh: Fresh, conduct: Conduct) -> None:
    found = {
        number: violations
        for number in range(1, 6)
        if (violations := scenarios.damaged_hand_over(fresh, number, conduct))
    }
    assert found == {}


@pytest.mark.parametrize(
    "scenario",
    [*scenarios.CAUGHT_BY.values(), scenarios.plan_while_reading],
    ids=lambda f: f.__name__,
)
def test_no_promise_is_broken_by(scenario: Callable[[Fresh], list[str]], fresh: Fresh) -> None:
    assert scenario(fresh) == []
