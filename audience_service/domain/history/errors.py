"""Errors of the history of audiences; domain/core/errors.py defines the other errors."""

from datetime import UTC, datetime
from typing import Self

from audience_service.domain.core.errors import AudienceError


class AudienceNotWatched(AudienceError):
    """The audience has no watch, so its history is unknown."""

    reason = "AUDIENCE_NOT_WATCHED"

    @classmethod
    def of(cls, audience_id: str) -> Self:
        """The error for an audience without a watch."""
        message = "the audience has no watch, so its history is unknown; call WatchMembership to record it from then on"
        return cls(message, metadata={"id": audience_id})


class TimeOutOfRange(AudienceError):
    """The event log of an audience does not cover the requested time."""

    reason = "TIME_OUT_OF_RANGE"

    @classmethod
    def outside(cls, earliest_time: datetime, watermark: datetime) -> Self:
        """The error for an event log that covers the range from `earliest_time` to `watermark`, both included."""
        covered = {"earliest_time": _to_iso(earliest_time), "watermark": _to_iso(watermark)}
        message = f"as_of is outside the audience's history, from {covered['earliest_time']} to {covered['watermark']}"
        return cls(message, metadata=covered)


def _to_iso(timestamp: datetime) -> str:
    return timestamp.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
