"""What can go wrong, as callers are told it.

    AudienceError
    ├── InvalidArgument            violations name the places in the request
    │   ├── InvalidFilter
    │   │   ├── FilterTooLarge
    │   │   ├── DatatypeNotAllowed
    │   │   └── ExpressionFailed
    │   ├── InvalidPageToken
    │   ├── MalformedRequest
    │   ├── MissingOrg
    │   └── InvalidOrg
    ├── Unauthenticated
    │   ├── MissingToken
    │   ├── InvalidToken
    │   └── ExpiredToken
    ├── PermissionDenied
    │   ├── ForeignOrg
    │   └── MissingScope
    ├── NotFound
    │   ├── AudienceNotFound
    │   ├── ContactNotFound
    │   ├── VersionNotFound
    │   └── SnapshotNotFound
    ├── AlreadyExists
    │   ├── NameTaken
    │   ├── RequestIdReused
    │   └── NotDeleted
    ├── StaleVersion
    ├── NotStatic
    ├── AudienceInUse
    ├── UnusableAudience
    ├── SnapshotNotReady
    ├── domain/watch/errors.py
    │   ├── WatchTokenExpired
    │   ├── AudienceNotWatched
    │   ├── TimeOutOfRange
    │   ├── TooManyWatches         retry later
    │   └── ServerStopping         retry later
    ├── TooManyStreams             retry later
    ├── TooManySnapshots           retry later
    ├── StoreUnavailable           retry later
    ├── OutOfTime
    └── UnsupportedByStore

Errors of custom audiences are in domain/custom_audiences/errors.py. Each leaf has a `reason`, a value of
audience.v1.ErrorReason. rpc/errors.py holds the one table that maps the classes to status codes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self


@dataclass(frozen=True, slots=True)
class Violation:
    """One place in the request (`segment.filter.where.$and[0].score`) and what would be right there."""

    field: str
    description: str


class AudienceError(Exception):
    """Base of all errors that callers are told. `metadata` goes into ErrorInfo and holds no personal data."""

    reason: ClassVar[str]
    retry_after_seconds: ClassVar[float | None] = None

    def __init__(
        self,
        message: str,
        *,
        violations: tuple[Violation, ...] = (),
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message, self.violations, self.metadata = message, violations, dict(metadata or {})

    def __str__(self) -> str:
        """The message and the first place that it is about."""
        first = [f": {violation.field}: {violation.description}" for violation in self.violations[:1]]
        return "".join([self.message, *first])


class InvalidArgument(AudienceError):
    """A field of the request is missing, malformed or past its limit."""

    reason = "INVALID_FIELD"

    @classmethod
    def at(cls, field: str, description: str, **metadata: str) -> Self:
        """The error about one place in the request."""
        return cls("invalid request", violations=(Violation(field, description),), metadata=metadata)


class InvalidFilter(InvalidArgument):
    """A filter is not in the filter language."""

    reason = "INVALID_FILTER"


class FilterTooLarge(InvalidFilter):
    """A filter is past a limit on size, depth, conditions or list length."""

    reason = "FILTER_TOO_LARGE"


class DatatypeNotAllowed(InvalidFilter):
    """A filter's datatype is not among those served."""

    reason = "DATATYPE_NOT_ALLOWED"


class ExpressionFailed(InvalidFilter):
    """An expression of the filter fails on a value that some record has."""

    reason = "EXPRESSION_FAILED"


class InvalidPageToken(InvalidArgument):
    """A page token or cursor is damaged or belongs to another request."""

    reason = "INVALID_PAGE_TOKEN"


class MalformedRequest(InvalidArgument):
    """The request's bytes are no message of the method's type."""

    reason = "MALFORMED_REQUEST"


class MissingOrg(InvalidArgument):
    """The call names no org."""

    reason = "MISSING_ORGID"


class InvalidOrg(InvalidArgument):
    """The call names an org in a form that no org has."""

    reason = "INVALID_ORGID"


class Unauthenticated(AudienceError):
    """The call does not prove who makes it."""


class MissingToken(Unauthenticated):
    """The call carries no bearer token."""

    reason = "MISSING_TOKEN"


class InvalidToken(Unauthenticated):
    """The token cannot be trusted."""

    reason = "INVALID_TOKEN"


class ExpiredToken(Unauthenticated):
    """The token was good once."""

    reason = "EXPIRED_TOKEN"


class PermissionDenied(AudienceError):
    """The caller is known and may not."""


class ForeignOrg(PermissionDenied):
    """The org is not one of the caller's."""

    reason = "FOREIGN_ORG"


class MissingScope(PermissionDenied):
    """The caller's token or roles do not include the scope."""

    reason = "MISSING_SCOPE"


class NotFound(AudienceError):
    """The org has no such thing; the same answer where another org has it."""

    kind = "record"

    @classmethod
    def of(cls, record_id: str) -> Self:
        """The error for this id, which is cut in the metadata where it is absurdly long."""
        return cls(f"the org has no {cls.kind} with this id", metadata={"id": record_id[:100]})


class AudienceNotFound(NotFound):
    """The org has no living audience with this id."""

    reason = "AUDIENCE_NOT_FOUND"
    kind = "living audience"


class ContactNotFound(NotFound):
    """Ids for a static list name no living record of the org, or the one that is asked about none at all."""

    reason = "CONTACT_NOT_FOUND"


class VersionNotFound(NotFound):
    """The segment has no such version, or none that was kept."""

    reason = "VERSION_NOT_FOUND"


class SnapshotNotFound(NotFound):
    """The org has no snapshot with this id, or it was deleted or has expired."""

    reason = "SNAPSHOT_NOT_FOUND"
    kind = "snapshot"


class AlreadyExists(AudienceError):
    """What should be made is there already."""


class NameTaken(AlreadyExists):
    """Another living segment, or custom audience, of the org has this name."""

    reason = "NAME_TAKEN"

    @classmethod
    def of(cls, name: str, kind: str = "living segment") -> Self:
        """The error for this name."""
        return cls(f"another {kind} of the org has this name", metadata={"name": name})


class RequestIdReused(AlreadyExists):
    """The request_id has made something else before."""

    reason = "REQUEST_ID_REUSED"


class NotDeleted(AlreadyExists):
    """A segment to undelete is not deleted."""

    reason = "NOT_DELETED"

    @classmethod
    def of(cls, segment_id: str) -> Self:
        """The error for this segment."""
        return cls(
            "the segment is not deleted; to write an older version of it, call RollbackSegment",
            metadata={"id": segment_id},
        )


class StaleVersion(AudienceError):
    """The record has moved on from the version that the write carries."""

    reason = "STALE_VERSION"


class NotStatic(AudienceError):
    """A dynamic segment has no list to edit or page."""

    reason = "NOT_STATIC"


class AudienceInUse(AudienceError):
    """Campaigns and the like, or other segments, use the audience."""

    reason = "AUDIENCE_IN_USE"


class UnusableAudience(AudienceError):
    """The audience's saved filter is not one that this service can run."""

    reason = "UNUSABLE_AUDIENCE"


class SnapshotNotReady(AudienceError):
    """The snapshot is still being made, or failed."""

    reason = "SNAPSHOT_NOT_READY"


class TooManyStreams(AudienceError):
    """The server holds as many streams as it is set to."""

    reason = "TOO_MANY_STREAMS"
    retry_after_seconds = 5.0


class TooManySnapshots(AudienceError):
    """The process makes as many snapshots, or has as many waiting, as it may."""

    reason = "TOO_MANY_SNAPSHOTS"
    retry_after_seconds = 5.0


class StoreUnavailable(AudienceError):
    """The database cannot be reached."""

    reason = "STORE_UNAVAILABLE"
    retry_after_seconds = 2.0


class OutOfTime(AudienceError):
    """The deadline passed before the answer."""

    reason = "OUT_OF_TIME"


class UnsupportedByStore(AudienceError):
    """The embedded store is known to get this wrong; the message says what."""

    reason = "UNSUPPORTED_BY_STORE"
