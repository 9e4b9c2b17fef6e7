"""How a message leaves: the Sender protocol, the outcomes it returns, and the senders there are."""

from collections.abc import Callable, Iterator, Sequence
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

    The worker waits before it claims again, longer each time, and says so.
    """

    reason: str


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


def open_sender(name: str, kit: "Kit") -> Sender:
    """Make the sender of that name. Raises: SettingsError when there is none."""
    from hyperdrip.senders.console import ConsoleSender
    from hyperdrip.senders.null import NullSender

    known: dict[str, Callable[[Kit], Sender]] = {
        "console": lambda _kit: ConsoleSender(),
        "null": lambda _kit: NullSender(),
        "smtp": _open_smtp,
    }
    if name not in known:
        raise SettingsError(f"SENDER={name!r} is not one of: {', '.join(sorted(known))}")
    return known[name](kit)


def _open_smtp(kit: "Kit") -> Sender:
    from hyperdrip.senders.smtp import open_smtp

    return open_smtp(kit)


def close_sender(sender: Sender) -> None:
    """Let a sender end its connections, if it has any: `close` is called where there is one."""
    close = getattr(sender, "close", None)
    if callable(close):
        close()
