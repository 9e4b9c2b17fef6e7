"""How a message leaves: the Sender protocol, the outcomes it returns, and the senders there are."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from hyperdrip.errors import SettingsError
from hyperdrip.models import Claim

if TYPE_CHECKING:
    from hyperdrip.senders.kit import Kit


@dataclass(frozen=True)
class Sent:
    """The other side has it."""

    provider_id: str | None = None


@dataclass(frozen=True)
class Retry:
    """It was definitely not delivered, and may work later."""

    reason: str


@dataclass(frozen=True)
class Failed:
    """It was definitely not delivered, and never will be.

    `is_address_dead`: nobody has this address, so it is suppressed.
    """

    reason: str
    is_address_dead: bool = False


@dataclass(frozen=True)
class Unknown:
    """It was handed over and no answer came: nobody can know."""

    reason: str


@dataclass(frozen=True)
class Unwritten:
    """It could not be written for this lead, which is paused with the reason; no quota is used.

    `may_send` need not be asked about it.
    """

    reason: str


@dataclass(frozen=True)
class Refused:
    """The other side takes no mail at all now: the message goes back as if it was never claimed.

    The worker waits before it claims again, longer each time, and says so. `seconds`: this message
    stays behind the others for so long, so that the next try is not made with it again.
    """

    reason: str
    seconds: float = 0.0


@dataclass(frozen=True)
class Later:
    """Not handed over, to keep a pace: it goes back and can be claimed again after `seconds`.

    `may_send` need not be asked about it.
    """

    reason: str
    seconds: float


Outcome = Sent | Retry | Failed | Unknown | Unwritten | Refused | Later


class Sender(Protocol):
    """Hands messages over, several at a time."""

    name: str
    wave_size: int
    is_quiet: bool

    def send_wave(
        self, claims: Sequence[Claim], may_send: Callable[[Claim], bool]
    ) -> Iterator[tuple[Claim, Outcome] | None]:
        """Send `claims` and yield each with its outcome, as soon as it is known.

        `may_send` has to be asked right before each hand-over, in the thread that iterates; when it
        says no, that message and all behind it stay where they are and are not yielded. While an
        answer lets itself be waited for, yield None once a second: leases are extended then.
        """
        ...


Factory = Callable[["Kit"], Sender]


def _open_console(_kit: "Kit") -> Sender:
    from hyperdrip.senders.console import ConsoleSender

    return ConsoleSender()


def _open_null(_kit: "Kit") -> Sender:
    from hyperdrip.senders.null import NullSender

    return NullSender()


def _open_smtp(kit: "Kit") -> Sender:
    from hyperdrip.senders.smtp import open_smtp

    return open_smtp(kit)


# Each imports its own module when it is asked for.
BUILT_IN: Mapping[str, Factory] = {
    "console": _open_console,
    "null": _open_null,
    "smtp": _open_smtp,
}


def list_senders() -> list[str]:
    """The names of all senders that can be opened: the built-in ones and those of plug-ins."""
    from hyperdrip.senders.plugins import list_plugins

    return sorted({*BUILT_IN, *list_plugins()})


def open_sender(name: str, kit: "Kit") -> Sender:
    """Make the sender of that name, built in or of a plug-in.

    Raises: SettingsError when there is none, or when it cannot be had; what its factory raises.
    """
    from hyperdrip.senders.plugins import open_plugin

    plugin = open_plugin(name, kit, built_in=BUILT_IN)
    if plugin is not None:
        return plugin
    if name not in BUILT_IN:
        raise SettingsError(f"SENDER={name!r} is not one of: {', '.join(list_senders())}")
    return BUILT_IN[name](kit)


def close_sender(sender: Sender) -> None:
    """Let a sender end its connections, if it has any: `close` is called where there is one."""
    close = getattr(sender, "close", None)
    if callable(close):
        close()
