"""The errors that callers receive.

    AudienceError
    ├── InvalidArgument            violations name the field paths in the request
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
    │   ├── ExpiredToken
    │   └── UnknownTokenKey
    ├── TokenKeysOutdated          retry later
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
    ├── ErasureNotConfigured
    ├── SnapshotNotReady
    ├── PlatformNotImported
    ├── MissingIndex
    ├── domain/history/errors.py
    │   ├── AudienceNotWatched
    │   └── TimeOutOfRange
    ├── domain/watch/errors.py
    │   ├── WatchTokenExpired
    │   ├── TooManyWatches         retry later
    │   └── ServerStopping         retry later
    ├── UnknownSealingKey
    ├── TooManyStreams             retry later
    ├── TooManyCalls               retry later
    ├── RateLimited                retry later
    ├── RequestTooLarge
    ├── ClientTimeout
    ├── TooManySnapshots           retry later
    ├── QuotaExceeded
    ├── StoreUnavailable           retry later
    │   └── StoreRefused
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
    """An error at a field path in the request (`segment.filter.where.$and[0].score`)."""

    field: str
    description: str


class AudienceError(Exception):
    """The base of all errors that callers receive. `metadata` goes into ErrorInfo, without personal data."""

    reason: ClassVar[str]
    retry_after_seconds: float | None = None

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
        """The message and the first violation."""
        first = [f": {violation.field}: {violation.description}" for violation in self.violations[:1]]
        return "".join([self.message, *first])


class InvalidArgument(AudienceError):
    """A field of the request is missing, malformed or above its limit."""

    reason = "INVALID_FIELD"

    @classmethod
    def at(cls, field: str, description: str, **metadata: str) -> Self:
        """The error for one field path in the request."""
        return cls("invalid request", violations=(Violation(field, description),), metadata=metadata)


class InvalidFilter(InvalidArgument):
    """A filter does not follow the filter language."""

    reason = "INVALID_FILTER"


class FilterTooLarge(InvalidFilter):
    """A filter exceeds a limit on size, depth, conditions or list length."""

    reason = "FILTER_TOO_LARGE"


class DatatypeNotAllowed(InvalidFilter):
    """A filter's datatype is not among those served."""

    reason = "DATATYPE_NOT_ALLOWED"


class ExpressionFailed(InvalidFilter):
    """An expression of the filter fails on a value of some record."""

    reason = "EXPRESSION_FAILED"


class InvalidPageToken(InvalidArgument):
    """A page token or cursor is damaged or belongs to another request."""

    reason = "INVALID_PAGE_TOKEN"


class UnknownSealingKey(AudienceError):
    """A page token, cursor or resume token is sealed with a key that this server does not have."""

    reason = "UNKNOWN_SEALING_KEY"

    @classmethod
    def at(cls, field: str, key_id: str) -> Self:
        """The error for one field path in the request."""
        description = "is sealed with a key that was retired; start again without it"
        return cls("unknown key", violations=(Violation(field, description),), metadata={"key_id": key_id})


class MalformedRequest(InvalidArgument):
    """The request's bytes are not a message of the method's type."""

    reason = "MALFORMED_REQUEST"


class MissingOrg(InvalidArgument):
    """The call names no org."""

    reason = "MISSING_ORGID"


class InvalidOrg(InvalidArgument):
    """The call names an org that does not have the form of an org's name."""

    reason = "INVALID_ORGID"


class Unauthenticated(AudienceError):
    """The call does not prove who makes it."""


class MissingToken(Unauthenticated):
    """The call carries no bearer token."""

    reason = "MISSING_TOKEN"


class InvalidToken(Unauthenticated):
    """The token cannot be trusted. `problem` in the metadata names the part of it that is wrong."""

    reason = "INVALID_TOKEN"


class ExpiredToken(Unauthenticated):
    """The token has expired."""

    reason = "EXPIRED_TOKEN"


class UnknownTokenKey(Unauthenticated):
    """The token's `kid` names a key that the issuer does not publish."""

    reason = "UNKNOWN_TOKEN_KEY"


class TokenKeysOutdated(AudienceError):
    """The token's `kid` names a key that may be new. The service reads the keys again."""

    reason = "TOKEN_KEYS_OUTDATED"
    retry_after_seconds = 1.0


class PermissionDenied(AudienceError):
    """The caller is known, but lacks the permission."""


class ForeignOrg(PermissionDenied):
    """The org is not one of the caller's."""

    reason = "FOREIGN_ORG"


class MissingScope(PermissionDenied):
    """The caller's token or roles do not include the scope."""

    reason = "MISSING_SCOPE"


class NotFound(AudienceError):
    """The org has no such record. The error is the same if another org has one."""

    kind = "record"

    @classmethod
    def of(cls, record_id: str) -> Self:
        """The error for this id. The metadata contains its first 100 characters."""
        return cls(f"the org has no {cls.kind} with this id", metadata={"id": record_id[:100]})


class AudienceNotFound(NotFound):
    """The org has no audience with this id, or it is deleted or has expired."""

    reason = "AUDIENCE_NOT_FOUND"
    kind = "audience"


class ContactNotFound(NotFound):
    """Ids of a static list name no unarchived record of the org, or the id of a request names no record at all."""

    reason = "CONTACT_NOT_FOUND"


class VersionNotFound(NotFound):
    """The segment has no such version, or the version is not stored."""

    reason = "VERSION_NOT_FOUND"


class SnapshotNotFound(NotFound):
    """The org has no snapshot with this id, or it was deleted or has expired."""

    reason = "SNAPSHOT_NOT_FOUND"
    kind = "snapshot"


class AlreadyExists(AudienceError):
    """The record to create exists already."""


class NameTaken(AlreadyExists):
    """Another segment, or custom audience, of the org that is not deleted has this name."""

    reason = "NAME_TAKEN"

    @classmethod
    def of(cls, name: str, kind: str = "segment") -> Self:
        """The error for this name."""
        return cls(f"another {kind} of the org has this name", metadata={"name": name})


class RequestIdReused(AlreadyExists):
    """The request_id was used for a different creation."""

    reason = "REQUEST_ID_REUSED"


class NotDeleted(AlreadyExists):
    """The segment to undelete is not deleted."""

    reason = "NOT_DELETED"

    @classmethod
    def of(cls, segment_id: str) -> Self:
        """The error for this segment."""
        return cls(
            "the segment is not deleted; to restore an older version, call RollbackSegment",
            metadata={"id": segment_id},
        )


class StaleVersion(AudienceError):
    """The record has a newer version than the write expects."""

    reason = "STALE_VERSION"


class NotStatic(AudienceError):
    """A dynamic segment has no list to edit or page."""

    reason = "NOT_STATIC"


class AudienceInUse(AudienceError):
    """Consumers, such as campaigns, or other segments use the audience."""

    reason = "AUDIENCE_IN_USE"


class UnusableAudience(AudienceError):
    """The service cannot run the audience's saved filter."""

    reason = "UNUSABLE_AUDIENCE"


class ErasureNotConfigured(AudienceError):
    """The service has no key that would recognise erased people later."""

    reason = "ERASURE_NOT_CONFIGURED"


class SnapshotNotReady(AudienceError):
    """The snapshot is still being created, or its creation failed."""

    reason = "SNAPSHOT_NOT_READY"


class PlatformNotImported(AudienceError):
    """No export of the ad platform with nodes of this kind is imported."""

    reason = "PLATFORM_NOT_IMPORTED"

    @classmethod
    def of(cls, platform: str, content: str) -> Self:
        """The error for a platform's interests, locations or options."""
        return cls(
            f"no {content} of {platform} are imported; an operator imports the platform's own export with"
            f" `audience-service taxonomy import --platform {platform} FILES`",
            metadata={"platform": platform},
        )


class MissingIndex(AudienceError):
    """An audience's filter scans more records than the operator allows, and an index would serve it."""

    reason = "MISSING_INDEX"


class TooManyStreams(AudienceError):
    """The server has reached its limit of open streams."""

    reason = "TOO_MANY_STREAMS"
    retry_after_seconds = 5.0


class TooManyCalls(AudienceError):
    """Too many calls of the org, of the caller or of all wait for earlier ones."""

    reason = "TOO_MANY_CALLS"
    retry_after_seconds = 1.0


class RateLimited(AudienceError):
    """The org or the caller has made as many calls in a time as its rate allows."""

    reason = "RATE_LIMITED"
    retry_after_seconds = 1.0


class RequestTooLarge(AudienceError):
    """A message of the request exceeds the limit on its size."""

    reason = "REQUEST_TOO_LARGE"


class ClientTimeout(AudienceError):
    """The client did not send its request, or did not receive a response, in time."""

    reason = "CLIENT_TIMEOUT"


class TooManySnapshots(AudienceError):
    """The process has reached its limit of running and waiting snapshots."""

    reason = "TOO_MANY_SNAPSHOTS"
    retry_after_seconds = 5.0


class QuotaExceeded(AudienceError):
    """The org has as many records of a kind as its quota allows."""

    reason = "QUOTA_EXCEEDED"


class StoreUnavailable(AudienceError):
    """The database cannot be reached."""

    reason = "STORE_UNAVAILABLE"
    retry_after_seconds = 2.0


class StoreRefused(StoreUnavailable):
    """The database refuses the service's credentials, rights or options, or its host has no address."""

    reason = "STORE_REFUSED"
    retry_after_seconds = 30.0


class OutOfTime(AudienceError):
    """The deadline passed before the answer was ready."""

    reason = "OUT_OF_TIME"


class UnsupportedByStore(AudienceError):
    """The embedded store does not support a feature of the request, which the message names."""

    reason = "UNSUPPORTED_BY_STORE"
