"""The errors of custom audiences and uploads; domain/core/errors.py has the others.

AudienceError
├── InvalidArgument
│   └── InvalidFile            the upload is FAILED
├── NotFound
│   └── UploadNotFound
├── AlreadyExists
│   └── UploadReused
├── NotRefreshable
├── NotUploadable
├── NotALookalike
├── SeedTooSmall
├── TooManyLookalikes          retry later
├── TooManyRefreshes           retry later
├── UploadTakenOver
├── OffsetMismatch             metadata has next_offset
├── UploadIncomplete           metadata has next_offset
└── ChecksumMismatch           metadata has next_offset
"""

from typing import Self

from audience_service.domain.core.errors import AlreadyExists, AudienceError, InvalidArgument, NotFound


class InvalidFile(InvalidArgument):
    """An uploaded file cannot be read. The upload fails, and the list stays as it was."""

    reason = "INVALID_FILE"


class UploadNotFound(NotFound):
    """The audience has no upload with this upload_id."""

    reason = "UPLOAD_NOT_FOUND"
    kind = "upload"


class UploadReused(AlreadyExists):
    """The upload_id belongs to an earlier upload with another header or another file."""

    reason = "UPLOAD_REUSED"


class _WrongType(AudienceError):
    """The operation does not apply to this type of custom audience."""

    explanation = ""

    @classmethod
    def of(cls, type_name: str) -> Self:
        """The error for this type."""
        return cls(f"a {type_name} {cls.explanation}", metadata={"type": type_name})


class NotRefreshable(_WrongType):
    """The custom audience is evaluated at each use and needs no refresh."""

    reason = "NOT_REFRESHABLE"
    explanation = "is evaluated at each use; it needs no refresh"


class NotUploadable(_WrongType):
    """The custom audience is of a type that takes no uploads."""

    reason = "NOT_UPLOADABLE"
    explanation = "takes no uploads; use a file_upload or customer_match"


class NotALookalike(_WrongType):
    """The custom audience is not a lookalike, so it has no model."""

    reason = "NOT_A_LOOKALIKE"
    explanation = "has no model; use a lookalike"


class SeedTooSmall(AudienceError):
    """The source of a lookalike has too few members to train a model on."""

    reason = "SEED_TOO_SMALL"


class TooManyLookalikes(AudienceError):
    """The process is already creating or refreshing the most lookalikes that it may run."""

    reason = "TOO_MANY_LOOKALIKES"
    retry_after_seconds = 5.0

    @classmethod
    def of(cls, limit: int) -> Self:
        """The error for this limit."""
        return cls(
            f"{limit} lookalikes are already being trained; retry later",
            metadata={"quota": "lookalikes_in_training", "limit": str(limit)},
        )


class TooManyRefreshes(AudienceError):
    """The process already runs and queues the most refreshes of uploaded lists that it may."""

    reason = "TOO_MANY_REFRESHES"
    retry_after_seconds = 5.0

    @classmethod
    def of(cls, limit: int) -> Self:
        """The error for this limit."""
        return cls(
            f"{limit} uploaded lists are already being refreshed; retry later",
            metadata={"quota": "refreshes", "limit": str(limit)},
        )


class UploadTakenOver(AudienceError):
    """Another stream has continued the upload."""

    reason = "UPLOAD_TAKEN_OVER"


class OffsetMismatch(AudienceError):
    """The chunk does not begin at the upload's next offset."""

    reason = "OFFSET_MISMATCH"


class UploadIncomplete(AudienceError):
    """The stream ended before the complete file was received."""

    reason = "UPLOAD_INCOMPLETE"


class ChecksumMismatch(AudienceError):
    """The checksum does not match the received bytes."""

    reason = "CHECKSUM_MISMATCH"
