"""What can go wrong with watched audiences and their ledgers; domain/core/errors.py has the rest."""

from datetime import UTC, datetime
from typing import Self

from audience_service.domain.core.errors import AudienceError


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


class TimeOutOfRange(AudienceError):
    """The event log of an audience does not cover the requested time."""

    reason = "TIME_OUT_OF_RANGE"

    @classmethod
    def outside(cls, earliest_time: datetime, watermark: datetime) -> Self:
        """The error for an event log that covers these two times and all between them."""
        covered = {"earliest_time": _to_iso(earliest_time), "watermark": _to_iso(watermark)}
        message = f"as_of is outside the audience's history, from {covered['earliest_time']} to {covered['watermark']}"
        return cls(message, metadata=covered)


class TooManyWatches(AudienceError):
    """As many audiences of the org are watched as may be."""

    reason = "TOO_MANY_WATCHES"
    retry_after_seconds = 60.0

    @classmethod
    def of(cls, limit: int) -> Self:
        """The error that there are so many."""
        return cls(f"{limit} audiences of the org are watched already", metadata={"limit": str(limit)})


class ServerStopping(AudienceError):
    """The server stops, and ends the watches that it serves."""

    reason = "SERVER_STOPPING"
    retry_after_seconds = 1.0


def _to_iso(timestamp: datetime) -> str:
    return timestamp.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
