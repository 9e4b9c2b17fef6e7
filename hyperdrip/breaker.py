"""The circuit breaker: how long a worker claims nothing after its sender took nothing at all."""

import logging
from collections.abc import Callable

from hyperdrip.dispatch import Wave
from hyperdrip.retry import refusal_seconds

log = logging.getLogger("hyperdrip.worker")

REFUSALS_OF_A_DRAIN = 3


class Breaker:
    """Counts refusals in a row; open after the first, until a message is dealt with.

    `refusal`: why the last wave was refused. `chance` gives random numbers from 0 to 1.
    """

    def __init__(self, sender: str, *, is_drain: bool, chance: Callable[[], float]) -> None:
        self.refusal: str | None = None
        self._sender = sender
        self._is_drain = is_drain
        self._chance = chance
        self._refusals = 0

    @property
    def is_open(self) -> bool:
        """Is the sender being waited for?"""
        return self._refusals > 0

    @property
    def is_given_up(self) -> bool:
        """Has it refused so often that a worker that is to end gives up?"""
        return self._is_drain and self._refusals >= REFUSALS_OF_A_DRAIN

    def note(self, wave: Wave) -> float:
        """Learn what came of a wave; seconds to claim nothing, longer with each refusal."""
        self.refusal = wave.refusal
        if wave.is_answered and self._refusals:
            self._refusals = 0
            if wave.refusal is None:
                log.info("The sender %s takes messages again", self._sender)
        if wave.refusal is None:
            return 0.0
        self._refusals += 1
        if self.is_given_up:
            return 0.0
        seconds = refusal_seconds(self._refusals, chance=self._chance())
        log.warning(
            "The sender %s takes nothing now: %s; next try in %.0f s",
            self._sender,
            wave.refusal,
            seconds,
        )
        return seconds
