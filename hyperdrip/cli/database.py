"""`db`: the database itself."""

import sys
from typing import Annotated

import typer

from hyperdrip.cli.invocation import Invocation, Json, command, group
from hyperdrip.cli.output import coloured, console, print_json, print_line
from hyperdrip.cli.selection import Yes
from hyperdrip.errors import SettingsError

COPY = "this database is a copy and sends nothing; hyperdrip db unlock says what differs"


def register(app: typer.Typer) -> None:
    """Add these commands."""
    db = group(
        app, "db", "The database: migrate it, look at it, reset it.", example="hyperdrip db status"
    )
    command(db, "migrate", example="hyperdrip db migrate")(migrate)
    command(db, "status", example="hyperdrip db status --json")(show_status)
    command(db, "psql", example="hyperdrip db psql -- -c 'select count(*) from hyperdrip.lead'")(
        psql
    )
    command(db, "stop", example="hyperdrip db stop")(stop)
    command(db, "roles", example="hyperdrip db roles --apply")(show_roles)
    command(db, "unlock", example="hyperdrip db unlock")(unlock)
    command(db, "reset", example="hyperdrip db reset --confirm hyperdrip")(reset)


def migrate(run: Invocation, json: Json = False) -> None:
    """Create or update the schema, and install PGMQ if it is not there."""
    with run.open(is_checked=False) as drip:
        applied = drip.migrate()
    if json:
        print_json({"applied": applied})
    else:
        for name in applied:
            print_line(f"Applied {name}")
        if not applied:
            print_line("Up to date")


def show_status(run: Invocation, json: Json = False) -> None:
    """Show which database this is, what it holds, and which migrations are applied."""
    with run.open(is_checked=False) as drip:
        status = drip.database_status()
    if json:
        print_json(status)
        return
    for name, value in status.items():
        text = ", ".join(value) or "none" if isinstance(value, list) else value
        print_line(f"{name + ':':<13} {'' if text is None else text}")
    if status["fenced"]:
        console().print(coloured(f"WARNING: {COPY}", "bold red"), soft_wrap=True)


def psql(
    run: Invocation,
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[-- ARGUMENT...]", help="Passed on to psql.")
    ] = None,
) -> None:
    """Open psql on the database; the password goes through the environment."""
    with run.open(is_checked=False) as drip:
        code = drip.run_psql(arguments or [])
    raise typer.Exit(code)


def stop(run: Invocation) -> None:
    """Stop the embedded server. It also stops by itself after the last command ends."""
    settings = run.settings()
    if settings.database_url:
        raise SettingsError("DATABASE_URL is set, so there is no embedded server to stop")
    from hyperdrip import embedded

    has_stopped = embedded.stop(settings.hyperdrip_home, settings.hyperdrip_env)
    print_line("Stopped" if has_stopped else "The embedded server does not run")


def show_roles(
    run: Invocation,
    apply: Annotated[
        bool, typer.Option("--apply", help="Make and grant them, instead of printing how.")
    ] = False,
    prefix: Annotated[
        str, typer.Option("--prefix", help="What their names begin with.")
    ] = "hyperdrip",
    json: Json = False,
) -> None:
    """Print the SQL of three roles: one plans, one sends, one only reads; --apply runs it.

    Each holds no more rights than it needs, and none can log in: grant them to users who can.
    """
    from hyperdrip.roles import Roles

    roles = Roles.of_prefix(prefix)
    with run.open() as drip:
        script = drip.roles_script(roles)
        if apply:
            drip.apply_roles(roles)
    if json:
        print_json({**vars(roles), "applied": apply, "script": script})
    elif apply:
        print_line(f"Made and granted: {', '.join(vars(roles).values())}")
    else:
        print_line(script)


def unlock(
    run: Invocation,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Let a copied database send, once you have made sure that its original does not.

    A copy made with createdb -T, or a dump restored elsewhere, sends nothing until then.
    """
    with run.open() as drip:
        fence = drip.read_fence()
        if fence.is_closed:
            run.note(
                f"This database is a copy: {fence.difference}.\n"
                "If its original still sends, the same people get every message twice."
            )
            if not yes:
                if not run.can_ask:
                    raise SettingsError(
                        "unlock asks first and there is no terminal to ask at;"
                        " once the original sends no more: --yes"
                    )
                run.confirm("Let this one send?")
            drip.unlock(fence)
    if json:
        print_json({"unlocked": fence.is_closed, "was": fence.stored, "is": fence.own})
    else:
        print_line("Unlocked" if fence.is_closed else "It was not locked: this is no copy")


def reset(
    run: Invocation,
    confirm: Annotated[
        str | None,
        typer.Option("--confirm", help="The database's name, to say it without a prompt."),
    ] = None,
) -> None:
    """Drop all leads, messages, queues and archives for good, and migrate anew.

    Refused while workers live.
    """
    with run.open(is_checked=False) as drip:
        name = drip.database_name()
        if confirm is None:
            if not run.can_ask:
                raise SettingsError(
                    "reset asks for the database's name and there is no terminal to ask at;"
                    f" to say it: --confirm {name}"
                )
            print(f"This drops everything that Hyperdrip has in {name!r}.", file=sys.stderr)
            # typer.prompt would write a blank to stdout, where only data belongs.
            print("Type the database's name to go on: ", end="", file=sys.stderr, flush=True)
            confirm = sys.stdin.readline().strip()
        if confirm != name:
            raise SettingsError(f"{confirm!r} is not the database's name; nothing was dropped")
        drip.reset()
    print_line(f"Reset {name}")
