"""What is logged goes to stderr, as lines for people or as JSON."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

from hyperdrip.settings import Settings


def configure_logging(settings: Settings, *, is_quiet: bool, is_verbose: bool) -> None:
    """Log what Hyperdrip says as the settings want it; `is_quiet`: only errors."""
    level = logging.getLevelName(settings.log_level.upper())
    if is_quiet:
        level = logging.ERROR
    elif is_verbose:
        level = logging.DEBUG
    # There is a line for each message, and no format of ours shows which code wrote it: the
    # switches are those of the logging HOWTO, "Optimization".
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    out = _Stderr(sys.stderr)
    out.setFormatter(_JsonLines() if settings.log_format == "json" else _PlainLines())
    logger = logging.getLogger("hyperdrip")
    logger.handlers, logger.propagate = [out], False
    logger.setLevel(level)


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes each line at once: stderr is flushed at the end of a line by itself."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.stream.write(f"{self.format(record)}\n")
        except Exception:  # noqa: BLE001 - as all handlers: what cannot be logged ends nothing
            self.handleError(record)


class _PlainLines(logging.Formatter):
    """The message alone, as users know it, with the traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record) if record.exc_info else record.getMessage()


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
