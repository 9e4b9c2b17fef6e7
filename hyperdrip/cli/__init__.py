"""The command line: a thin shell over `hyperdrip.Hyperdrip`. One file per command group.

`commands` says which file has which command. A file imports what its commands need, and of that the
database driver and whatever else takes long only inside of them, so that help is fast.
"""

import contextlib
import gc
import os
import re
import sys
import traceback
from pathlib import Path
from typing import NoReturn

import typer

from hyperdrip.cli.commands import app
from hyperdrip.errors import HyperdripError, MissingSettingsError

# Python would look for cycles some seventy times while modules are imported, and several times in
# each wave of a worker, and find none.
COLLECT_AFTER = 50_000


def main() -> NoReturn:
    """Run the command line; ends the process with the exit code that the README documents."""
    gc.set_threshold(COLLECT_AFTER)
    _open_streams()
    try:
        code = app(prog_name="hyperdrip", standalone_mode=False) or 0
        if code == 130:  # Typer takes Ctrl-C for itself, and says nothing
            _fail("stopped", code)
        sys.stdout.flush()
    except MissingSettingsError as error:
        code = max(_fail(mistake, error.exit_code) for mistake in error.mistakes)
    except HyperdripError as error:
        code = _fail(str(error), error.exit_code)
    except typer.TyperException as error:
        code = _fail(_usage(error), 2)
    except (typer.Abort, KeyboardInterrupt):
        code = _fail("stopped", 130)
    except BrokenPipeError:  # whoever read our output has gone
        _drop_output()
        code = 0
    except SystemExit as end:  # Typer's own way to say the same
        code = end.code
        if isinstance(end.__context__, BrokenPipeError):
            _drop_output()
            code = 0
    except OSError as error:
        _drop_output()
        where = error.filename or "standard output"
        code = _fail(f"{where} cannot be read or written: {error.strerror or error}", 1)
    except Exception as error:  # noqa: BLE001 - a mistake of ours is one line, too, unless -v
        if {"-v", "--verbose"} & set(sys.argv):
            traceback.print_exc()
        what = f"{type(error).__name__}: {error}"
        code = _fail(f"something unforeseen ({what}); the same with -v shows where", 1)
    sys.exit(code)


def _open_streams() -> None:
    """Take any text, and do without an output that the caller closed."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            nowhere = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - it outlives us
            setattr(sys, name, nowhere)
        with contextlib.suppress(AttributeError):
            getattr(sys, name).reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Keep the interpreter from flushing at its end what could not be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, code: int) -> int:
    line = " ".join(message.split())
    print(f"error: {line}", file=sys.stderr)
    return code


def _usage(error: typer.TyperException) -> str:
    """What is wrong, what was meant, and where to look, on one line."""
    message = error.format_message().rstrip(".")
    options = re.search(r" \(Possible options: (.*)\)$", message)
    if options:
        near = [name for name in options[1].split(", ") if name != "--help"]
        message = message[: options.start()]
        message += f". Did you mean {' or '.join(near)}?" if near else ""
    message = message.removeprefix("Invalid value: ").replace(". Did you mean", "; did you mean")
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "hyperdrip"
    end = "" if message.endswith("?") else ";"
    return f"{message[:1].lower()}{message[1:]}{end} see: {path} --help"
