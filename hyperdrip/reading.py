"""How many waves a worker reads at a time, and what it has read and not claimed yet.

While somebody's transaction is open, nothing that was archived meanwhile can be cleaned up, and a
read passes all of it before it comes to what is left. So slow reads bring several waves at once.
"""

import time
from dataclasses import dataclass

from hyperdrip.delivery import Claimed

# For an envelope; a read that passes nothing dead takes a fifth of it, and half on a busy server.
SLOW_SECONDS_EACH = 120e-6
FEWEST = 100  # a shorter read says little
MOST_WAVES = 8
LONGEST_SECONDS = 10.0  # others have nothing of what is hidden from them


@dataclass
class ReadAhead:
    """Envelopes that are hidden from others until `lease_ends` (monotonic), and are not claimed.

    `waves`: how many of them the next read is to bring.
    """

    waves: int = 1
    envelope_ids: tuple[int, ...] = ()
    lease_ends: float = 0.0

    def note(self, claimed: Claimed) -> None:
        """Keep what was read and is not claimed yet, and learn from how the read went."""
        self.envelope_ids, read = claimed.ahead, claimed.read
        if read is None:
            return
        seconds_each = read.seconds / max(1, read.count)
        if not read.is_full or read.count < FEWEST:
            self.waves = 1
        elif seconds_each > SLOW_SECONDS_EACH:
            self.waves = min(MOST_WAVES, self.waves * 2)
        elif seconds_each < SLOW_SECONDS_EACH / 2:
            self.waves = max(1, self.waves // 2)

    def is_fresh(self, vt_seconds: int) -> bool:
        """Was it read a moment ago, and is enough of the lease left for a wave to be sent in?"""
        read_at = self.lease_ends - vt_seconds
        return time.monotonic() < read_at + min(vt_seconds / 2, LONGEST_SECONDS)

    def clear(self) -> None:
        """Forget what was read; whoever could not use it in time reads less the next time."""
        self.envelope_ids, self.waves = (), 1
