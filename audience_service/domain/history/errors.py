"""Errors of the history of audiences; domain/core/errors.py has the rest."""

from datetime import UTC, datetime
from typing import Self

from audience_service.domain.core.errors import AudienceError


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


def _to_iso(timestamp: datetime) -> str:
    return timestamp.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
