"""Errors of watch streams; domain/core/errors.py has the rest."""

from typing import Self

from audience_service.domain.core.errors import AudienceError


class WatchTokenExpired(AudienceError):
    """The events behind a resume token are not there any more."""

    reason = "WATCH_TOKEN_EXPIRED"


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
