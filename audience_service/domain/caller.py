"""Who asks, for which org, with which scopes, and until when."""

import time
from dataclasses import dataclass
from enum import StrEnum

from audience_service.domain.errors import OutOfTime


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


_MOST_SECONDS = 1e9
"""Locks and events refuse to wait for centuries, which is what some clients send for no deadline."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """The moment, on the monotonic clock in seconds, at which the answer is worthless; None for never."""

    at: float | None

    @classmethod
    def after(cls, seconds: float | None) -> "Deadline":
        """The deadline that many seconds from now."""
        return cls(None if seconds is None else time.monotonic() + seconds)

    def remaining(self) -> float | None:
        """Seconds left, some decades at most; None for no limit. Raises OutOfTime when there are none."""
        if self.at is None:
            return None
        left = self.at - time.monotonic()
        if left <= 0:
            raise OutOfTime("the deadline has passed")
        return min(left, _MOST_SECONDS)

    def within(self, seconds: float) -> "Deadline":
        """The sooner of this deadline and that many seconds from now."""
        soon = time.monotonic() + seconds
        return Deadline(soon if self.at is None else min(self.at, soon))

    def check(self) -> None:
        """Raise OutOfTime when there is no time left."""
        self.remaining()


@dataclass(frozen=True, slots=True)
class Call:
    """One call: its caller and its deadline."""

    caller: Caller
    deadline: Deadline

    @property
    def org(self) -> str:
        """The org that the call is about."""
        return self.caller.org
