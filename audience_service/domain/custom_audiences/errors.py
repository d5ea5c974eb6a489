"""What can go wrong with custom audiences, besides what domain/core/errors.py has.

AudienceError
├── InvalidArgument
│   └── InvalidFile            the upload has failed
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
├── OffsetMismatch             metadata tells next_offset
├── UploadIncomplete           metadata tells next_offset
└── ChecksumMismatch           metadata tells next_offset
"""

from typing import Self

from audience_service.domain.core.errors import AlreadyExists, AudienceError, InvalidArgument, NotFound


class InvalidFile(InvalidArgument):
    """An uploaded file cannot be read; nothing of it is published."""

    reason = "INVALID_FILE"


class UploadNotFound(NotFound):
    """The audience has no upload of this upload_id."""

    reason = "UPLOAD_NOT_FOUND"
    kind = "upload"


class UploadReused(AlreadyExists):
    """The upload_id stands for another upload, with another header."""

    reason = "UPLOAD_REUSED"


class _WrongType(AudienceError):
    """A custom audience of this type has no such thing."""

    explanation = ""

    @classmethod
    def of(cls, type_name: str) -> Self:
        """The error for this type."""
        return cls(f"a {type_name} {cls.explanation}", metadata={"type": type_name})


class NotRefreshable(_WrongType):
    """The custom audience is evaluated at each use and has nothing to refresh."""

    reason = "NOT_REFRESHABLE"
    explanation = "is evaluated at each use and has nothing to refresh"


class NotUploadable(_WrongType):
    """The custom audience is of a type that takes no uploads."""

    reason = "NOT_UPLOADABLE"
    explanation = "takes no uploads; a file_upload or customer_match does"


class NotALookalike(_WrongType):
    """The custom audience is of another type, which has no model."""

    reason = "NOT_A_LOOKALIKE"
    explanation = "has no model; a lookalike has"


class SeedTooSmall(AudienceError):
    """The source of a lookalike has too few members to tell anything from."""

    reason = "SEED_TOO_SMALL"


class TooManyLookalikes(AudienceError):
    """The process already models as many lookalikes as it may."""

    reason = "TOO_MANY_LOOKALIKES"
    retry_after_seconds = 5.0

    @classmethod
    def of(cls, limit: int) -> Self:
        """The error for this limit."""
        return cls(f"{limit} lookalikes are being modelled already", metadata={"limit": str(limit)})


class TooManyRefreshes(AudienceError):
    """The process refreshes as many uploaded lists as it may, and as many wait."""

    reason = "TOO_MANY_REFRESHES"
    retry_after_seconds = 5.0

    @classmethod
    def of(cls, limit: int) -> Self:
        """The error for this limit."""
        return cls(f"{limit} uploaded lists are being refreshed already", metadata={"limit": str(limit)})


class UploadTakenOver(AudienceError):
    """Another stream has gone on with the upload."""

    reason = "UPLOAD_TAKEN_OVER"


class OffsetMismatch(AudienceError):
    """The chunk does not begin where the upload goes on."""

    reason = "OFFSET_MISMATCH"


class UploadIncomplete(AudienceError):
    """The file is of another size than what has arrived."""

    reason = "UPLOAD_INCOMPLETE"


class ChecksumMismatch(AudienceError):
    """The bytes that arrived are not those that the checksum is of."""

    reason = "CHECKSUM_MISMATCH"
