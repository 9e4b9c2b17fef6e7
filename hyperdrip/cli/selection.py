"""Which leads a command is about: LEADs, standard input, or what leads have in common."""

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from hyperdrip.cli.completion import complete_campaign, complete_lead, complete_status
from hyperdrip.cli.invocation import Json, check_choice, parse_number
from hyperdrip.errors import InvalidDataError
from hyperdrip.models import LeadStatus, Selection

Leads = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="LEAD|-",
        help="lead_123, 123, or the address; - reads one a line from standard input.",
        show_default=False,
        autocompletion=complete_lead,
    ),
]
Status = Annotated[
    str | None,
    typer.Option(
        "--status",
        help=f"Only leads that are: {', '.join(LeadStatus)}.",
        metavar="S",
        autocompletion=complete_status,
    ),
]
Import = Annotated[
    int | None,
    typer.Option("--import", parser=parse_number, help="Only leads of this import.", metavar="ID"),
]
Where = Annotated[
    list[str] | None,
    typer.Option(
        "--where", help="Only leads with this field; more than one: all of them.", metavar="K=V"
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@dataclass(frozen=True)
class Choice:
    """What a command's options say of the leads that it is about."""

    selection: Selection
    reads_stdin: bool = False
    is_dry_run: bool = False
    is_yes: bool = False
    is_json: bool = False

    @property
    def is_everybody(self) -> bool:
        """Was nothing said?"""
        return self.selection == Selection()


def choosing(
    function: Callable[..., None], *, campaign: str = "--campaign", is_change: bool = True
) -> Callable[..., None]:
    """Give a command the options that say which leads; it gets a Choice after the Invocation.

    `campaign`: what the option for leads of a campaign is called. `is_change`: also those of
    commands that change leads, which refuse to take everybody by mistake.
    """
    in_campaign = Annotated[
        str | None,
        typer.Option(
            campaign,
            help="Only leads of this campaign.",
            metavar="C",
            autocompletion=complete_campaign,
        ),
    ]
    kinds: dict[str, tuple[Any, Any]] = {
        "leads": (Leads, None),
        "in_campaign": (in_campaign, None),
        "status": (Status, None),
        "import_id": (Import, None),
        "where": (Where, None),
    }
    last: dict[str, tuple[Any, Any]] = {"json": (Json, False)}
    if is_change:
        last = {"dry_run": (DryRun, False), "yes": (Yes, False), **last}
    own = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in list(inspect.signature(function).parameters.values())[2:]
    ]

    def run(invocation: Any, **options: Any) -> None:
        leads = options.pop("leads") or []
        choice = Choice(
            selection=_selection(leads, **{key: options.pop(key) for key in [*kinds][1:]}),
            reads_stdin="-" in leads,
            is_json=options.pop("json"),
            is_dry_run=options.pop("dry_run", False),
            is_yes=options.pop("yes", False),
        )
        if is_change and choice.is_everybody:
            raise typer.BadParameter(
                "say which leads: LEAD, - for standard input,"
                f" {campaign}, --status, --import, or --where"
            )
        function(invocation, choice, **options)

    first = inspect.Parameter("invocation", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [first, *_parameters(kinds), *own, *_parameters(last)]
    )
    run.__doc__ = function.__doc__
    return run


def _parameters(kinds: dict[str, tuple[Any, Any]]) -> list[inspect.Parameter]:
    return [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default)
        for name, (kind, default) in kinds.items()
    ]


def _selection(
    leads: list[str],
    *,
    in_campaign: str | None,
    status: str | None,
    import_id: int | None,
    where: list[str] | None,
) -> Selection:
    return Selection(
        keys=_read_keys(leads) if leads else None,
        status=LeadStatus(check_choice("--status", status, [*LeadStatus])) if status else None,
        campaign=in_campaign,
        import_id=import_id,
        where=tuple(_split(text) for text in where or []),
    )


def _read_keys(leads: list[str]) -> tuple[str, ...]:
    """The LEADs given, with those from standard input in place of a dash."""
    keys: list[str] = []
    for text in leads:
        if text == "-":
            keys += _read_lines()
        else:
            keys.append(text)
    return tuple(keys)


def _read_lines() -> list[str]:
    """LEADs from standard input, one a line, without blank lines and comments."""
    if sys.stdin is None:
        return []
    try:
        text = sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidDataError(
            f"standard input is not UTF-8 text ({error.reason} at byte {error.start});"
            " write one LEAD a line"
        ) from None
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _split(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise typer.BadParameter(f"--where {text!r} is not of the form FIELD=VALUE")
    return name.strip(), value.strip()
