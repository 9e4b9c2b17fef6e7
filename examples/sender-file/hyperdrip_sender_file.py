"""A sender for Hyperdrip that appends each message to a file of JSON lines, for other programs.

The file is outbox.jsonl in the folder where the worker runs, or the one that OUTBOX names.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hyperdrip.errors import RenderError, SettingsError
from hyperdrip.models import Claim
from hyperdrip.senders import Outcome, Refused, Sent, Unknown, Unwritten
from hyperdrip.senders.kit import Kit


class FileSender:
    """Appends a line for each message, and has it on the disk before it says so."""

    name = "file"
    wave_size = 100
    is_quiet = False

    def __init__(self, kit: Kit, path: Path) -> None:
        self._kit = kit
        self._path = path

    def send_wave(
        self, claims: Sequence[Claim], may_send: Callable[[Claim], bool]
    ) -> Iterator[tuple[Claim, Outcome]]:
        for claim in claims:
            try:
                line = self._line(claim)
            except RenderError as error:  # for this lead alone; others may be fine
                yield claim, Unwritten(str(error))
                continue
            if not may_send(claim):
                return
            if (why := self._hindrance()) is not None:  # it is so for every message, and may pass
                yield claim, Refused(why)
                return
            yield claim, self._append(line)

    def _line(self, claim: Claim) -> str:
        rendered = self._kit.render(claim)
        message = {
            "id": claim.message_key,  # the same at every attempt
            "to": claim.email,
            "name": claim.name,
            "subject": rendered.subject,
            "text": rendered.text,
            "html": rendered.html,
        }
        return json.dumps(message, ensure_ascii=False) + "\n"

    def _hindrance(self) -> str | None:
        try:
            self._path.open("a").close()
        except OSError as error:
            return f"{self._path} cannot be opened: {error.strerror}"
        return None

    def _append(self, line: str) -> Outcome:
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            # Part of the line may be there.
            return Unknown(f"{self._path} cannot be written: {error.strerror}")
        return Sent(provider_id=self._path.name)


def open_file(kit: Kit) -> FileSender:
    """Make the sender; a mistake in the settings is told in one line before anything is sent."""
    path = Path(os.environ.get("OUTBOX", "outbox.jsonl"))
    if not path.parent.is_dir():
        raise SettingsError(f"OUTBOX={str(path)!r} is in no folder that exists")
    return FileSender(kit, path)
