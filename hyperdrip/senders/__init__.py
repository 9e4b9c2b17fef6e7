"""How a message leaves: the Sender protocol, the outcomes it returns, and the senders there are."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from hyperdrip.errors import SettingsError
from hyperdrip.models import Claim


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

    `is_address_dead`: the address does not exist; nobody should write to it again.
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

    The one outcome of a message that `may_send` need not be asked about.
    """

    reason: str


@dataclass(frozen=True)
class Refused:
    """The sender as a whole does not take mail now.

    The message goes back as if it had not been claimed (attempt not counted, quota given back); the
    worker waits before it claims again, and says so.
    """

    reason: str


@dataclass(frozen=True)
class Later:
    """Not handed over, because of a pace: goes back, not an attempt, visible after `seconds`."""

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


def open_sender(name: str) -> Sender:
    """The sender of that name. Raises: SettingsError when there is none."""
    from hyperdrip.senders.console import ConsoleSender
    from hyperdrip.senders.null import NullSender

    known: dict[str, Callable[[], Sender]] = {"console": ConsoleSender, "null": NullSender}
    if name not in known:
        raise SettingsError(f"SENDER={name!r} is not one of: {', '.join(sorted(known))}")
    return known[name]()
