"""How help looks: plain text as wide as the terminal, in bold what is looked for.

Typer would draw boxes with rich, which takes several times as long to import as all the rest.
"""

import re
import sys
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


class Command(TyperCommand):
    """A command."""

    def get_help(self, ctx: Any) -> str:
        """The whole page."""
        return _for_terminals(super().get_help(ctx))


class Group(TyperGroup):
    """A group of commands."""

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
