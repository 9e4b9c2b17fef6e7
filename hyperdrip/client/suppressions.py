"""Methods of the library door: addresses that must never be written to, and unsubscribing."""

from collections.abc import Sequence
from itertools import chain

from hyperdrip import leads, suppressing, suppressions
from hyperdrip.client.base import Base
from hyperdrip.errors import InvalidDataError, NotFoundError
from hyperdrip.lead_values import check_email, check_reason, parse_message_key
from hyperdrip.models import Suppressed, Suppression, Unsubscribed

BATCH = 5_000


class SuppressionMethods(Base):
    """Addresses that get nothing, whatever is planned and however they come back."""

    def suppress(
        self, emails: Sequence[str], *, reason: str = "by hand", is_dry_run: bool = False
    ) -> Suppressed:
        """Suppress addresses, and stop leads that have them: what was planned is cancelled.

        In transactions of 5,000 addresses, so that a long list keeps nobody else from planning for
        long; what breaks off may be done again.
        Raises: InvalidDataError for what is no address; then none is suppressed.
        """
        checked = sorted({check_email(email) for email in emails}, key=str.lower)
        why = check_reason(reason)
        parts: list[Suppressed] = []
        with self._session() as conn:
            for begin in range(0, len(checked), BATCH):
                batch = checked[begin : begin + BATCH]
                parts.append(
                    suppressing.suppress(conn, self.clock, batch, reason=why, is_dry_run=is_dry_run)
                )
        return Suppressed(
            added=tuple(chain.from_iterable(part.added for part in parts)),
            known=sum(part.known for part in parts),
            stopped=tuple(sorted(chain.from_iterable(part.stopped for part in parts))),
            cancelled=sum(part.cancelled for part in parts),
        )

    def remove_suppression(self, email: str) -> list[str]:
        """Suppress an address no more, also one that was erased; returns why it was suppressed.

        Nobody is resumed or enrolled by that. Raises: NotFoundError when it was not suppressed.
        """
        address = check_email(email)
        with self._session() as conn:
            reasons = suppressions.delete(conn, address)
        if not reasons:
            raise NotFoundError(
                f"{address!r} is not suppressed; see: hyperdrip suppressions list --search TEXT"
            )
        return reasons

    def list_suppressions(self, *, part: str | None = None, limit: int = 100) -> list[Suppression]:
        """Suppressed addresses that contain `part`, the newest first."""
        with self._session() as conn:
            return suppressions.list_newest(conn, part=part, limit=limit)

    def unsubscribe(self, token: str) -> Unsubscribed:
        """Unsubscribe whoever got the mail with this token; the one way for all roads.

        The lead is STOPPED, what was planned is cancelled, and its address is suppressed. It may be
        done again, and changes nothing then.

        Raises: InvalidDataError for a token that no key of SECRET_KEY signed; SettingsError when
        there is no key.
        """
        from hyperdrip.unsubscribing import verify

        key = parse_message_key(verify(self.settings.secret_key, token.strip()) or "")
        if key is None:
            raise InvalidDataError(
                "this is no unsubscribe token that SECRET_KEY has signed; look whether it is whole"
            )
        with self._session() as conn:
            return suppressing.unsubscribe(conn, self.clock, key)

    def unsubscribe_lead(self, key: str) -> Unsubscribed:
        """The same for a lead that said so in another way. Raises: NotFoundError."""
        with self._session() as conn:
            lead = leads.get_lead(conn, key)
            if lead is None:
                raise NotFoundError(
                    f"no lead {key!r}; to suppress an address: hyperdrip suppressions add ADDRESS"
                )
            return suppressing.unsubscribe(conn, self.clock, (lead.id, 0, 0))
