"""Errors of watch streams; domain/core/errors.py defines the other errors."""

from typing import Self

from audience_service.domain.core.errors import AudienceError


class WatchTokenExpired(AudienceError):
    """The events after a resume token were deleted."""

    reason = "WATCH_TOKEN_EXPIRED"


class TooManyWatches(AudienceError):
    """The org has as many watched audiences as the limit allows."""

    reason = "TOO_MANY_WATCHES"
    retry_after_seconds = 60.0

    @classmethod
    def of(cls, limit: int) -> Self:
        """The error for an org that has reached `limit`."""
        message = f"the org already watches {limit} audiences, its limit; watch one of them, or wait until one expires"
        return cls(message, metadata={"quota": "watches", "limit": str(limit)})


class ServerStopping(AudienceError):
    """The server stops and ends its watch streams."""

    reason = "SERVER_STOPPING"
    retry_after_seconds = 1.0
