"""Senders of other packages, found through the entry-point group `hyperdrip.senders`.

What they may rely on stands in docs/senders.md.
"""

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from hyperdrip.errors import HyperdripError, SettingsError

if TYPE_CHECKING:
    from hyperdrip.senders import Sender
    from hyperdrip.senders.kit import Kit

GROUP = "hyperdrip.senders"


def list_plugins() -> list[str]:
    """The names that installed packages give to senders, in order."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


def open_plugin(name: str, kit: "Kit", *, built_in: Iterable[str]) -> "Sender | None":
    """Make a sender of another package; None when no package has one of that name.

    Raises: SettingsError in one line when it cannot be had, or has the name of a built-in one.
    """
    found = sorted(entry_points(group=GROUP, name=name), key=_origin)
    if not found:
        return None
    entry = found[0]
    if name in built_in:
        raise SettingsError(
            f"SENDER={name!r} is built in, and {_origin(entry)} has a sender of that name, too;"
            " uninstall it"
        )
    if len({one.value for one in found}) > 1:
        raise SettingsError(
            f"SENDER={name!r} is a sender of {_origin(entry)} and of {_origin(found[1])};"
            " uninstall one of them"
        )
    return _checked(_make(entry, kit), entry)


def _make(entry: EntryPoint, kit: "Kit") -> Any:
    try:
        factory = entry.load()
    except (Exception, SystemExit) as error:
        raise SettingsError(
            f"the sender {entry.name!r} of {_origin(entry)} cannot be imported: {_what(error)}"
        ) from error
    try:
        return factory(kit)
    except HyperdripError:
        raise
    except (Exception, SystemExit) as error:
        raise SettingsError(
            f"the sender {entry.name!r} of {_origin(entry)} cannot be made: {_what(error)}"
        ) from error


def _checked(sender: Any, entry: EntryPoint) -> "Sender":
    """Find out now what would go wrong in the middle of a wave."""
    size = getattr(sender, "wave_size", None)
    wrong = None
    if getattr(sender, "name", None) != entry.name:
        wrong = f"its name is {getattr(sender, 'name', None)!r}"
    elif isinstance(size, bool) or not isinstance(size, int) or size < 1:
        wrong = f"its wave_size is {size!r}"
    elif not isinstance(getattr(sender, "is_quiet", None), bool):
        wrong = "its is_quiet is neither True nor False"
    elif not callable(getattr(sender, "send_wave", None)):
        wrong = "it has no send_wave"
    if wrong:
        raise SettingsError(f"the sender {entry.name!r} of {_origin(entry)} is none: {wrong}")
    made: Sender = sender
    return made


def _origin(entry: EntryPoint) -> str:
    return f"the package {entry.dist.name} {entry.dist.version}" if entry.dist else entry.value


def _what(error: BaseException) -> str:
    """The error's kind, and its words: one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
