"""One run of the command line: the options that every command takes, settings, and logging."""

import inspect
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from hyperdrip.errors import HyperdripError, InvalidDataError
from hyperdrip.settings import Settings, load

if TYPE_CHECKING:
    from hyperdrip.client import Hyperdrip

HELP = {"help_option_names": ["-h", "--help"]}


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        from importlib.metadata import version

        typer.echo(f"hyperdrip {version('hyperdrip')}")
        raise typer.Exit


EnvFile = Annotated[
    Path | None,
    typer.Option(
        "--env-file", help="Read settings from this file in place of .env.", metavar="FILE"
    ),
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Only errors on stderr.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="More on stderr.")]
NoInput = Annotated[bool, typer.Option("--no-input", help="Never ask.")]
Version = Annotated[
    bool,
    typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON value.")]


@dataclass(frozen=True)
class Invocation:
    """What the options that every command takes say."""

    env_file: Path | None = None
    is_quiet: bool = False
    is_verbose: bool = False
    no_input: bool = False

    @property
    def can_ask(self) -> bool:
        """May a question be asked? Only at a terminal, and without --no-input."""
        return not self.no_input and sys.stdin.isatty() and sys.stderr.isatty()

    def settings(self, overrides: Mapping[str, str] | None = None) -> Settings:
        """Read the settings; `overrides` are options, by setting name. Raises: SettingsError."""
        settings = load(env_file=self.env_file, overrides=overrides)
        self._configure_logging(settings)
        return settings

    @contextmanager
    def open(
        self, overrides: Mapping[str, str] | None = None, *, is_checked: bool = True
    ) -> Iterator["Hyperdrip"]:
        """Open the database of the settings. Raises: SettingsError; DatabaseError and its kin."""
        settings = self.settings(overrides)
        from hyperdrip.client import Hyperdrip

        with Hyperdrip.open(settings, is_checked=is_checked) as drip:
            yield drip

    @contextmanager
    def open_planner(self) -> Iterator["Hyperdrip"]:
        """As `open`, and warn when DAILY_MAX says something else than the database."""
        with self.open() as drip:
            stored, wanted = drip.instance().daily_max, drip.settings.daily_max
            if drip.settings.is_explicit("DAILY_MAX") and stored != wanted:
                self.note(
                    f"warning: DAILY_MAX={wanted} is set and this database's daily maximum is"
                    f" {stored}, which counts; to change it: hyperdrip quota set default {wanted}"
                )
            yield drip

    def confirm(self, question: str) -> None:
        """Ask at the terminal. Raises: HyperdripError unless the answer is yes."""
        # typer.confirm would write a blank to stdout, where only data belongs.
        print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise HyperdripError("not confirmed; nothing was changed")

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """A sign on stderr that something is being done; only at a terminal."""
        if self.is_quiet or not sys.stderr.isatty():
            yield
            return
        from rich.console import Console

        with Console(stderr=True).status(f"{what} ..."):
            yield

    def note(self, text: str) -> None:
        """Write a line for the person at the terminal to stderr, unless quiet."""
        if not self.is_quiet:
            print(text, file=sys.stderr)

    def _configure_logging(self, settings: Settings) -> None:
        level = logging.getLevelName(settings.log_level.upper())
        if self.is_quiet:
            level = logging.ERROR
        elif self.is_verbose:
            level = logging.DEBUG
        # There is a line for each message, and no format of ours shows which code wrote it: the
        # switches are those of the logging HOWTO, "Optimization".
        logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
        logging._srcfile = None
        out = logging.StreamHandler(sys.stderr)
        out.setFormatter(_JsonLines() if settings.log_format == "json" else _PlainLines())
        logger = logging.getLogger("hyperdrip")
        logger.handlers, logger.propagate = [out], False
        logger.setLevel(level)


class _PlainLines(logging.Formatter):
    """The message alone, as users know it."""


class _JsonLines(logging.Formatter):
    """One JSON object a line: time, level, message, and the traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def _merged(
    before: Invocation, env_file: Path | None, quiet: bool, verbose: bool, no_input: bool
) -> Invocation:
    return Invocation(
        env_file=env_file or before.env_file,
        is_quiet=quiet or before.is_quiet,
        is_verbose=verbose or before.is_verbose,
        no_input=no_input or before.no_input,
    )


_COMMON: dict[str, Any] = {
    "env_file": EnvFile,
    "quiet": Quiet,
    "verbose": Verbose,
    "no_input": NoInput,
    "version": Version,
}


def _hide_flag_value(annotation: Any) -> None:
    """Keep the help from showing `<bool>` behind a flag, as if a value had to follow."""
    kind, *more = get_args(annotation) or (annotation,)
    for info in more:
        if kind is bool and info.metavar is None:
            info.metavar = ""


for _kind in _COMMON.values():
    _hide_flag_value(_kind)


def command(
    group: typer.Typer, name: str, *, example: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function as a command; it gets the Invocation first, then its own options.

    Adds the options that every command takes, and `example` at the end of its help.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(function).parameters.values())[1:]
        common = [
            inspect.Parameter(
                key,
                inspect.Parameter.KEYWORD_ONLY,
                annotation=kind,
                default=None if key == "env_file" else False,
            )
            for key, kind in _COMMON.items()
        ]
        context = inspect.Parameter(
            "context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context
        )

        def run(context: typer.Context, **options: Any) -> None:
            shared = {key: options.pop(key) for key in _COMMON}
            del shared["version"]
            function(_merged(context.obj or Invocation(), **shared), **options)

        for option in own:
            _hide_flag_value(option.annotation)
        parameters = [*(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own), *common]
        run.__signature__ = inspect.Signature([context, *parameters])  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in [context, *parameters]}
        run.__doc__ = function.__doc__
        group.command(name, epilog=f"Example: {example}", context_settings=HELP)(run)
        return function

    return register


def group(parent: typer.Typer, name: str, text: str, *, example: str) -> typer.Typer:
    """A group of commands; without a command it shows its help."""
    made = typer.Typer(name=name, help=text, epilog=f"Example: {example}", context_settings=HELP)

    @made.callback(invoke_without_command=True)
    def start(
        context: typer.Context,
        env_file: EnvFile = None,
        quiet: Quiet = False,
        verbose: Verbose = False,
        no_input: NoInput = False,
        _version: Version = False,
    ) -> None:
        before = context.obj or Invocation()
        context.obj = _merged(before, env_file, quiet, verbose, no_input)
        if context.invoked_subcommand is None:
            typer.echo(context.get_help())

    parent.add_typer(made)
    return made


app = typer.Typer(
    name="hyperdrip",
    help="Lead drip campaigns on PostgreSQL and PGMQ: planned under a daily quota, sent once.",
    context_settings=HELP,
    pretty_exceptions_enable=False,
)


@app.callback(
    invoke_without_command=True,
    epilog='Example: hyperdrip add-lead --name "Ada Marlowe" --email ada@example.com',
)
def _start(
    context: typer.Context,
    env_file: EnvFile = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_input: NoInput = False,
    _version: Version = False,
) -> None:
    context.obj = _merged(Invocation(), env_file, quiet, verbose, no_input)
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


# Reading options


def parse_day(text: str) -> date:
    """Read YYYY-MM-DD. Raises: a usage error for anything else."""
    try:
        if len(text) != len("2024-01-15"):
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no day such as 2024-01-15") from None


def parse_number(text: str | int) -> int:
    """Read a whole number; a default comes as one. Raises: a usage error for anything else."""
    if isinstance(text, int):
        return text
    if not re.fullmatch(r"[+-]?[0-9]{1,12}", text.strip()):
        raise typer.BadParameter(f"{text!r} is no whole number")
    return int(text)


def check_choice(option: str, value: str, choices: Sequence[str]) -> str:
    """The choice that `value` is, in any letter case. Raises: a usage error, with the nearest."""
    for choice in choices:
        if value.lower() == choice.lower():
            return choice
    near = get_close_matches(value.lower(), [choice.lower() for choice in choices], n=1)
    hint = next((f". Did you mean {c}?" for c in choices if near and c.lower() == near[0]), "")
    raise typer.BadParameter(f"{option} {value!r} is not one of: {', '.join(choices)}{hint}")


def check_limit(limit: int) -> int:
    """Raises: InvalidDataError below 1."""
    if not 1 <= limit <= 1_000_000_000:
        raise InvalidDataError(f"limit={limit} is not a number from 1 to 1000000000")
    return limit


Limit = Annotated[
    int,
    typer.Option("--limit", parser=parse_number, help="At most this many.", metavar="N"),
]
Day = Annotated[date, typer.Argument(parser=parse_day, metavar="DAY")]
DayOption = Annotated[
    date | None, typer.Option("--day", parser=parse_day, metavar="DAY", help="Only this day.")
]
