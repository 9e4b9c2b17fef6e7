"""PURE: values as templates see them. None, an empty text and blanks count as missing.

Whatever is printed has passed `clean`, so no value brings a bare CR or a NUL into a message.
"""

import re
from collections.abc import Mapping
from typing import Any

from jinja2.exceptions import TemplateRuntimeError

# What no text of a mail has: controls but for tab and LF, and lone surrogates.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_LINE_END = re.compile("\r\n|[\r\x85\u2028]")


class Names:
    """Values by name, which a template can look up and do nothing else with."""

    __slots__ = ("path", "values")

    def __init__(self, path: str, values: Mapping[str, Any]) -> None:
        self.path = path
        self.values = values

    def __str__(self) -> str:
        raise TemplateRuntimeError(f"{self.path} holds several values; name one of them")

    def get(self, name: Any) -> Any:
        """The value of a name; None when it counts as missing."""
        return usable(self.values.get(name), f"{self.path}.{name}")


def usable(value: Any, path: str = "") -> Any:
    """The value as templates see it; None when it counts as missing. `path`: how they name it."""
    if isinstance(value, str):
        text = clean(value)
        return text.strip() or None if _is_visible(text) else None
    if isinstance(value, Mapping):
        return Names(path, value)
    if isinstance(value, list | tuple):
        items = (usable(item, path) for item in value)
        return [item for item in items if item is not None]
    return value


def clean(text: str) -> str:
    """The text with its line breaks as LF, and without control characters."""
    if text.isprintable():
        return text
    return CONTROL.sub("", _LINE_END.sub("\n", text.replace("\u2029", "\n\n")))


def _is_visible(text: str) -> bool:
    # Joiners, direction marks and the like are for the characters around them.
    return text.isprintable() or any(char.isprintable() and not char.isspace() for char in text)
