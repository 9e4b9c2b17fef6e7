"""PURE: what comes next after an attempt that did not end in a plain success."""

FIRST_BACKOFF_SECONDS = 60
LONGEST_BACKOFF_SECONDS = 3600
LONGEST_REFUSAL_SECONDS = 60.0

# Sending these twice does no harm: the other side drops what it has seen, or nothing is delivered.
IDEMPOTENT_SENDERS = frozenset({"console", "null", "webhook"})


def backoff_seconds(attempts: int, *, chance: float) -> int:
    """Seconds to wait after `attempts` tries: four times as long each, from 1 min to 1 h, +-20 %.

    `chance` is a random number from 0 to 1.
    """
    plain: int = min(FIRST_BACKOFF_SECONDS * 4 ** min(attempts - 1, 20), LONGEST_BACKOFF_SECONDS)
    return max(1, round(plain * (0.8 + 0.4 * chance)))


def refusal_seconds(refusals: int, *, chance: float) -> float:
    """Seconds to claim nothing after a sender refused so often in a row.

    Doubling from 1 s to a minute, 20 % either way; `chance` is a random number from 0 to 1.
    """
    plain: float = min(2.0 ** min(refusals - 1, 20), LONGEST_REFUSAL_SECONDS)
    return plain * (0.8 + 0.4 * chance)


def is_given_up(attempts: int, *, max_attempts: int) -> bool:
    """Has a message that could not be delivered been tried often enough?"""
    return attempts >= max_attempts


def is_sent_again(*, on_unknown: str, sender: str, attempts: int, max_attempts: int) -> bool:
    """Is a message of unknown fate sent again (`resend`), or left as it is (`hold`)?

    `on_unknown` empty: it depends on whether the sender that had it is idempotent.
    """
    policy = on_unknown or ("resend" if sender in IDEMPOTENT_SENDERS else "hold")
    return policy == "resend" and attempts < max_attempts
