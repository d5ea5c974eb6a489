"""Who asks, for which org, with which scopes, and until when."""

import threading
import time
from dataclasses import dataclass
from enum import StrEnum

from audience_service.domain.core.errors import OutOfTime


class Scope(StrEnum):
    """What a caller may do; every RPC requires one (the required_scope option in the protos)."""

    READ = "audiences.read"
    WRITE = "audiences.write"


_BOTH, _READ = frozenset(Scope), frozenset({Scope.READ})

SCOPES_OF_ROLE: dict[str, frozenset[Scope]] = {
    **dict.fromkeys(("System", "RootAdmin", "ConfigAdmin", "ContentAdmin", "Owner", "Publisher", "PowerUser"), _BOTH),
    **dict.fromkeys(("Reviewer", "User"), _READ),
    **dict.fromkeys(("Guest", "Customer"), frozenset[Scope]()),
}
"""The platform's roles; one that is not here grants nothing."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A verified caller, acting for one org."""

    subject: str
    org: str
    scopes: frozenset[Scope]


_MAX_WAIT_SECONDS = 1e9
"""Locks and events refuse to wait for centuries, which is what some clients send for no deadline."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """The moment, on the monotonic clock in seconds, at which the answer is worthless; None for never.

    It is worthless as well once the caller has `gone`, which whoever has the connection sets, from any thread.
    """

    expires_at: float | None
    cancel_event: threading.Event | None = None

    @classmethod
    def after(cls, seconds: float | None, cancel_event: threading.Event | None = None) -> "Deadline":
        """The deadline that many seconds from now."""
        return cls(None if seconds is None else time.monotonic() + seconds, cancel_event)

    @property
    def is_cancelled(self) -> bool:
        """Whether the caller has gone."""
        return self.cancel_event is not None and self.cancel_event.is_set()

    def remaining(self) -> float | None:
        """Seconds left, some decades at most; None for no limit. Raises OutOfTime when there are none."""
        if self.is_cancelled:
            raise OutOfTime("the caller has cancelled the call")
        if self.expires_at is None:
            return None
        seconds_left = self.expires_at - time.monotonic()
        if seconds_left <= 0:
            raise OutOfTime("the deadline has passed")
        return min(seconds_left, _MAX_WAIT_SECONDS)

    def min_with(self, seconds: float) -> "Deadline":
        """The sooner of this deadline and that many seconds from now."""
        soon = time.monotonic() + seconds
        return Deadline(soon if self.expires_at is None else min(self.expires_at, soon), self.cancel_event)

    def check(self) -> None:
        """Raise OutOfTime when there is no time left."""
        self.remaining()


@dataclass(frozen=True, slots=True)
class RequestContext:
    """One call: its caller and its deadline."""

    caller: Caller
    deadline: Deadline

    @property
    def org(self) -> str:
        """The org that the call is about."""
        return self.caller.org
