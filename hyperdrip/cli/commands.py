"""Which commands there are, and which file has each; only the file of the one asked for is read."""

from importlib import import_module
from typing import Any

import typer

from hyperdrip.cli.invocation import HELP, start
from hyperdrip.cli.plain import Command, Group

# Each command or group: its file in this folder, and the first paragraph of its help.
COMMANDS = {
    "add-lead": ("adding", "Add a lead: each of its messages gets its day at once."),
    "import": ("importing", "Add the leads of a CSV or Excel file, all in one transaction."),
    "unsubscribe": (
        "suppressions",
        "Stop a lead for good and suppress its address, as the link in its mail does.",
    ),
    "reconcile": (
        "reconciling",
        "Settle messages of unknown fate, once you know: mark them as sent, or send them again.",
    ),
    "plan": ("quota", "Show the days ahead, up to the last one with something planned."),
    "replan": (
        "quota",
        "Pull messages forward to earlier days with room, in their order and with their spacing.",
    ),
    "worker": (
        "sending",
        "Send what is due, each message once, as long as today's quota has room.",
    ),
    "rollover": (
        "sending",
        "Plan again whatever days before today still hold. A worker does this by itself.",
    ),
    "pause": ("sending", "Pause everything: nothing is handed over until `hyperdrip resume`."),
    "resume": ("sending", "Resume everything after `hyperdrip pause`."),
    "audit": (
        "sending",
        "Prove the invariants from the tables: ledger, queues, quota and leads agree.",
    ),
    "status": ("status", "Show on one screen how today stands, who works, and what is wrong."),
    "explain": (
        "status",
        "Say the one rule that decides what happens to a lead today, with the numbers it read.",
    ),
    "leads": ("leads", "Who is in a drip, and how far."),
    "campaigns": ("campaigns", "What is written to leads: a folder with a text for each step."),
    "messages": ("messages", "The ledger: every message, its day and its state."),
    "suppressions": ("suppressions", "Addresses that must never be written to."),
    "queues": ("queues", "The PGMQ queues, one for each sending day."),
    "quota": ("quota", "How many messages may leave on a day, over all leads."),
    "db": ("database", "The database: migrate it, look at it, reset it."),
}


class Root(Group):
    """Knows a command by its line in COMMANDS until it is run, or asked for its help."""

    def __init__(self, **options: Any) -> None:
        """`options`: as Typer gives them."""
        super().__init__(**options)
        self.commands = {name: Command(name, help=text) for name, (_, text) in COMMANDS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As Typer's, with the command itself in place of its line."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, load(name) if name else None, rest


def load(name: str) -> Any:
    """Import the file of a command or group, and return it as Typer runs it."""
    own = typer.Typer(rich_markup_mode=None)
    import_module(f"hyperdrip.cli.{COMMANDS[name][0]}").register(own)
    return typer.main.get_group(own).commands[name]


app = typer.Typer(
    name="hyperdrip",
    help="Lead drip campaigns on PostgreSQL and PGMQ: planned under a daily quota, sent once.",
    epilog='Example: hyperdrip add-lead --name "Ada Marlowe" --email ada@example.com',
    cls=Root,
    rich_markup_mode=None,
    context_settings=HELP,
    pretty_exceptions_enable=False,
)
app.callback(invoke_without_command=True)(start)
