"""The command line: a thin shell over `hyperdrip.Hyperdrip`. One file per command group.

Nothing here imports the database driver before a command needs it, so that help is fast.
"""

import contextlib
import os
import sys
from typing import NoReturn

import typer

from hyperdrip.cli import database, leads, messages, queues, quota, sending
from hyperdrip.cli.invocation import app
from hyperdrip.errors import HyperdripError

for group in (leads, messages, queues, quota, sending, database):
    group.register(app)


def main() -> NoReturn:
    """Run the command line; ends the process with the exit code that the README documents."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        code = app(standalone_mode=False) or 0
        sys.stdout.flush()
    except HyperdripError as error:
        code = _fail(str(error), error.exit_code)
    except typer.TyperException as error:
        code = _fail(_usage(error), 2)
    except (typer.Abort, KeyboardInterrupt):
        code = _fail("stopped", 130)
    except BrokenPipeError:
        # Whoever read our output has gone. Keep the interpreter from flushing into the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


def _fail(message: str, code: int) -> int:
    line = " ".join(message.split())
    print(f"error: {line}", file=sys.stderr)
    return code


def _usage(error: typer.TyperException) -> str:
    message = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "hyperdrip"
    return f"{message}; see: {path} --help"
