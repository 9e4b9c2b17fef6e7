"""PURE: DOMAIN_LIMITS -> a pace per recipient domain, and how a wave is spread over time."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hyperdrip.errors import SettingsError

ANY = "*"
LONGEST_WAIT_SECONDS = 600.0  # then it is looked again: who was before may have gone away
MOST = 1_000_000
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_PACE = re.compile(r"([0-9]{1,7})/([smhd])")


@dataclass(frozen=True)
class DomainLimits:
    """Seconds between two messages to a domain: by domain in lower-case ASCII.

    `*` is the pace of each domain that is not named, for itself.
    """

    every_seconds: Mapping[str, float] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.every_seconds)

    def of(self, domain: str) -> float | None:
        """Seconds between two messages to this domain; None: as fast as it goes."""
        return self.every_seconds.get(domain, self.every_seconds.get(ANY))


@dataclass(frozen=True)
class Grant:
    """What a domain's pace lets through of a request.

    `count` may go now. The next one may come in `first_wait` seconds, and those behind it
    `every_seconds` apart.
    """

    count: int
    first_wait: float
    every_seconds: float


def parse_domain_limits(name: str, value: str) -> DomainLimits:
    """Read `gmail.com=20/m, outlook.com=600/h, *=2/s` (s, m, h, d). `name`: the setting's.

    Raises: SettingsError with the part that is wrong.
    """
    paces: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in value.split(","))):
        domain, equals, pace = (piece.strip() for piece in part.partition("="))
        match = _PACE.fullmatch(pace)
        if not equals or not domain or not match or not 1 <= int(match[1]) <= MOST:
            raise SettingsError(
                f"{name}: {part[:80]!r} is no pace; write gmail.com=20/m, outlook.com=600/h, *=2/s:"
                f" a domain or *, a whole number from 1 to {MOST}, and s, m, h or d"
            )
        key = domain if domain == ANY else ascii_domain(domain)
        if key is None:
            raise SettingsError(
                f"{name}: {part[:80]!r} names no domain; write gmail.com=20/m, or *=2/s"
            )
        if key in paces:
            raise SettingsError(f"{name}: {domain[:80]!r} is there twice; leave one of them out")
        paces[key] = _SECONDS[match[2]] / int(match[1])
    return DomainLimits(paces)


_LABEL = r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")


def ascii_domain(domain: str) -> str | None:
    """A domain in lower-case ASCII (IDNA); None when it cannot exist."""
    domain = domain.lower().rstrip(".")
    if not domain.isascii():
        import idna

        try:
            domain = idna.encode(domain, uts46=True).decode()
        except idna.IDNAError:
            return None
    return domain if len(domain) <= 253 and _DOMAIN.fullmatch(domain) else None


def domain_of(email: str) -> str:
    """The domain of an address as limits name it; one that cannot exist as it stands."""
    domain = email.rpartition("@")[2]
    return ascii_domain(domain) or domain.lower()


def count_by_domain(limits: DomainLimits, emails: Sequence[str]) -> dict[str, int]:
    """How many of these addresses are at each domain with a pace."""
    counts = Counter(domain_of(email) for email in emails)
    return {domain: n for domain, n in counts.items() if limits.of(domain) is not None}


def spread(emails: Sequence[str], grants: Mapping[str, Grant]) -> list[float | None]:
    """Seconds that each message has to wait, in order; None: it may go now.

    The first of a domain go; those behind them wait in line, `LONGEST_WAIT_SECONDS` at most.
    """
    seen: Counter[str] = Counter()
    waits: list[float | None] = []
    for email in emails:
        domain = domain_of(email)
        grant = grants.get(domain)
        behind = seen[domain] - grant.count if grant else -1
        seen[domain] += 1
        if grant is None or behind < 0:
            waits.append(None)
        else:
            wait = grant.first_wait + behind * grant.every_seconds
            waits.append(min(max(wait, 0.0), LONGEST_WAIT_SECONDS))
    return waits
