"""The request context: who calls, for which org, with which scopes, and until when."""

import threading
import time
from dataclasses import dataclass
from enum import StrEnum

from audience_service.domain.core.errors import MissingScope, OutOfTime


class Scope(StrEnum):
    """A permission of a caller. Every RPC requires one: the required_scope option in the protos."""

    READ = "audiences.read"
    """Definitions, counts and ids."""
    WRITE = "audiences.write"
    EXPORT = "audiences.export"
    """Values of people's records, uploaded cells and identifiers for ad platforms."""
    ERASE = "audiences.erase"
    """Erasure of people."""


_ALL, _READ = frozenset(Scope), frozenset({Scope.READ})
_EDIT = _ALL - {Scope.ERASE}

SCOPES_OF_ROLE: dict[str, frozenset[Scope]] = {
    **dict.fromkeys(("System", "RootAdmin", "ConfigAdmin", "Owner"), _ALL),
    **dict.fromkeys(("ContentAdmin", "Publisher", "PowerUser"), _EDIT),
    **dict.fromkeys(("Reviewer", "User"), _READ),
    **dict.fromkeys(("Guest", "Customer"), frozenset[Scope]()),
}
"""The scopes of the platform's roles. A role that is not listed grants no scope."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A verified caller, acting for one org."""

    subject: str
    org: str
    scopes: frozenset[Scope]


_MAX_WAIT_SECONDS = 1e9
"""The longest timeout for locks and events, in seconds. Python refuses the centuries that some clients send."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """The time after which the caller no longer waits.

    `expires_at` is in seconds on the monotonic clock, None for no limit. The server sets `cancel_event` when the caller
    cancels, from any thread.
    """

    expires_at: float | None
    cancel_event: threading.Event | None = None

    @classmethod
    def after(cls, seconds: float | None, cancel_event: threading.Event | None = None) -> "Deadline":
        """The deadline that many seconds from now, or without a limit for None."""
        return cls(None if seconds is None else time.monotonic() + seconds, cancel_event)

    @property
    def is_cancelled(self) -> bool:
        """Whether the caller has cancelled the call."""
        return self.cancel_event is not None and self.cancel_event.is_set()

    def remaining(self) -> float | None:
        """The seconds left, at most about 30 years; None for no limit. Raises OutOfTime if none are left."""
        if self.is_cancelled:
            raise OutOfTime("the caller has cancelled the call")
        if self.expires_at is None:
            return None
        seconds_left = self.expires_at - time.monotonic()
        if seconds_left <= 0:
            raise OutOfTime("the deadline has passed")
        return min(seconds_left, _MAX_WAIT_SECONDS)

    def min_with(self, seconds: float) -> "Deadline":
        """The earlier of this deadline and that many seconds from now."""
        soon = time.monotonic() + seconds
        return Deadline(soon if self.expires_at is None else min(self.expires_at, soon), self.cancel_event)

    def check(self) -> None:
        """Raise OutOfTime if no time is left."""
        self.remaining()


@dataclass(frozen=True, slots=True)
class RequestContext:
    """The context of one call: its caller, its deadline and its id."""

    caller: Caller
    deadline: Deadline
    request_id: str = ""
    """The id of the call in logs; empty for work without a call."""

    @property
    def org(self) -> str:
        """The org that the call is about."""
        return self.caller.org

    def require(self, scope: Scope, purpose: str) -> None:
        """Raise MissingScope unless the caller has the scope. `purpose` says what needs it, for the message."""
        if scope not in self.caller.scopes:
            raise MissingScope(f"{purpose} requires the scope {scope}", metadata={"scope": scope})
