"""The console sender: delivers nothing; the worker's log line is the message."""

from collections.abc import Callable, Iterator, Sequence

from hyperdrip.models import Claim
from hyperdrip.senders import Outcome, Sent

SENT = Sent()


class ConsoleSender:
    """Marks every message as sent. The worker says so when it starts."""

    name = "console"
    wave_size = 500
    is_quiet = False

    def send_wave(
        self, claims: Sequence[Claim], may_send: Callable[[Claim], bool]
    ) -> Iterator[tuple[Claim, Outcome]]:
        """See Sender."""
        for claim in claims:
            if not may_send(claim):
                return
            yield claim, SENT
