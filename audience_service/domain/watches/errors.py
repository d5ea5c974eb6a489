"""What can go wrong with watched audiences and their ledgers; domain/errors.py has the rest."""

from datetime import UTC, datetime
from typing import Self

from audience_service.domain.errors import AudienceError


class WatchTokenExpired(AudienceError):
    """The events behind a resume token are not there any more."""

    reason = "WATCH_TOKEN_EXPIRED"


class AudienceNotWatched(AudienceError):
    """Nobody watches the audience, so that nothing is known of its past."""

    reason = "AUDIENCE_NOT_WATCHED"

    @classmethod
    def of(cls, audience_id: str) -> Self:
        """The error for this audience."""
        message = "nobody watches the audience, so its past is not known; WatchMembership has it tracked from then on"
        return cls(message, metadata={"id": audience_id})


class MomentNotKnown(AudienceError):
    """A moment lies before what an audience's ledger knows, or behind it."""

    reason = "MOMENT_NOT_KNOWN"

    @classmethod
    def outside(cls, known_since: datetime, as_of: datetime) -> Self:
        """The error that the ledger reaches from one moment to another one."""
        known = {"known_since": _written(known_since), "as_of": _written(as_of)}
        message = f"the audience's past is known from {known['known_since']} to {known['as_of']} and at no other moment"
        return cls(message, metadata=known)


class TooManyWatches(AudienceError):
    """As many audiences of the org are watched as may be."""

    reason = "TOO_MANY_WATCHES"
    retry_after_seconds = 60.0

    @classmethod
    def of(cls, most: int) -> Self:
        """The error that there are so many."""
        return cls(f"{most} audiences of the org are watched already", metadata={"limit": str(most)})


class ServerStopping(AudienceError):
    """The server stops, and ends the watches that it serves."""

    reason = "SERVER_STOPPING"
    retry_after_seconds = 1.0


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
