"""The error tree in the docstring is the tree of classes."""

import inspect
import re

import pytest

from hyperdrip import errors
from hyperdrip.errors import HyperdripError

LINE = re.compile(r"(?P<branch>[│├└─ ]*)(?P<name>\w+) +(?P<code>\d+)   \S")


def drawn_tree() -> list[tuple[str, str | None, int]]:
    """Name, parent and exit code of each class, as the docstring draws them."""
    assert errors.__doc__
    drawn: list[tuple[str, str | None, int]] = []
    path: list[str] = []
    for line in errors.__doc__.splitlines():
        match = LINE.match(line)
        if match:
            depth = len(match["branch"]) // 4
            path[depth:] = [match["name"]]
            drawn.append((match["name"], path[depth - 1] if depth else None, int(match["code"])))
    return drawn


def test_the_docstring_draws_every_error_and_no_other() -> None:
    defined = {
        name
        for name, found in inspect.getmembers(errors, inspect.isclass)
        if found.__module__ == errors.__name__
    }
    names = [name for name, _, _ in drawn_tree()]
    assert len(names) == len(set(names)) == 14
    assert set(names) == defined


@pytest.mark.parametrize(("name", "parent", "code"), drawn_tree())
def test_an_error_has_the_parent_and_the_exit_code_that_are_drawn(
    name: str, parent: str | None, code: int
) -> None:
    found = getattr(errors, name)
    assert issubclass(found, HyperdripError)
    assert found.exit_code == code
    assert found.__base__.__name__ == (parent or "Exception")
    assert str(found("what, which value, what to do")) == "what, which value, what to do"


def test_the_exit_codes_are_the_documented_ones() -> None:
    assert {code for _, _, code in drawn_tree()} == {1, 2, 3, 4, 5, 6, 7}
