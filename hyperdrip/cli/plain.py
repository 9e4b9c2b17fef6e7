"""Typer's commands and groups without the two things that take longer than most commands run.

Help is plain text, where Typer would draw boxes with rich. Texts are taken as they are, where Typer
would ask pydantic.
"""

import re
import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


class Command(TyperCommand):
    """A command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read what was typed."""
        _read_plainly(self.get_params(ctx))
        return super().parse_args(ctx, args)

    def get_help(self, ctx: Any) -> str:
        """The whole page."""
        return _for_terminals(super().get_help(ctx))


class Group(TyperGroup):
    """A group of commands."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read what was typed."""
        _read_plainly(self.get_params(ctx))
        return super().parse_args(ctx, args)

    def get_help(self, ctx: Any) -> str:
        """The whole page."""
        return _for_terminals(super().get_help(ctx))

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - Typer's signature
        """The commands, each with the whole first paragraph of its help."""
        rows = [(name, summary_of(command.help)) for name, command in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def summary_of(text: str | None) -> str:
    """The first paragraph of a help text, on one line."""
    return " ".join((text or "").partition("\n\n")[0].split())


def _read_plainly(params: Iterable[Any]) -> None:
    for param in params:
        param.get_runtime_param = partial(_Reader, param.get_runtime_param)


class _Reader:
    """Makes a value of what was typed; what is no text, and has no parser, is left to Typer."""

    def __init__(self, get_typers: Callable[[], Any]) -> None:
        self._get_typers = get_typers

    def coerce(self, value: Any, *, param: Any, ctx: Any) -> Any:
        kind, parse = param.type_descriptor.annotation, param.type_descriptor.parameter_info.parser
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        if kind is str and parse is None:
            return value
        if kind == list[str] and parse is None:
            return list(value)
        if parse is not None and isinstance(value, str | int):
            return parse(value)
        return self._get_typers().coerce(value, param=param, ctx=ctx)


def _for_terminals(page: str) -> str:
    """Headings and names in bold, at a terminal."""
    if not sys.stdout.isatty():
        return page

    def bold(found: re.Match[str]) -> str:
        return typer.style(found[0], bold=True)

    # A section is a heading and indented lines; a name stands two blanks before what is said of it.
    return re.sub(
        r"^[A-Z]\w+:\n(?:  .*\n?)+",
        lambda section: re.sub(r"^(?:\S.*|  \S.*?(?=  |$))", bold, section[0], flags=re.M),
        page,
        flags=re.M,
    )
