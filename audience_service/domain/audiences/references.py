"""The uses of an audience: its consumers, what else refers to it, and the checks on registrations."""

import re
from dataclasses import dataclass
from datetime import datetime

from audience_service.domain.core.errors import AudienceInUse, InvalidArgument

MAX_CONSUMER_ID_LENGTH = 200
MAX_USE_DESCRIPTION_LENGTH = 200

_MAX_NAME_IN_ERROR = 50
"""The most characters of a name in an error. gRPC sends errors in a trailer, which is small."""

_KIND = re.compile(r"[a-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class AudienceUse:
    """The registration of one consumer of an audience; one for each audience, kind and consumer id.

    The service sets `registrant` and `created_at`.
    """

    audience_id: str
    kind: str
    consumer_id: str
    description: str = ""
    registrant: str = ""
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class AudienceReference:
    """The id and name of a segment, lookalike or sync that refers to an audience."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What uses an audience: some of each kind, and the number of all.

    `uses` are registered. `segments` are those whose filters refer to the audience, without deleted ones. `lookalikes`
    have it as their source. `syncs` send its members to a platform, or exclude them.
    """

    segments: tuple[AudienceReference, ...]
    segment_count: int
    uses: tuple[AudienceUse, ...]
    use_count: int
    lookalikes: tuple[AudienceReference, ...] = ()
    lookalike_count: int = 0
    syncs: tuple[AudienceReference, ...] = ()
    sync_count: int = 0

    @property
    def is_used(self) -> bool:
        """Whether anything uses the audience."""
        return any((self.use_count, self.segment_count, self.lookalike_count, self.sync_count))

    def to_error(self) -> AudienceInUse:
        """The error that refuses a deletion because of these uses."""
        return AudienceInUse(
            f"the audience is in use: {self.use_count} registered uses, {self.segment_count} segments that refer to "
            f"it, {self.lookalike_count} lookalikes of it and {self.sync_count} syncs with it; release, change or "
            "delete these first, or delete with force",
            metadata={
                "uses": str(self.use_count),
                "kinds": ", ".join(dict.fromkeys(use.kind for use in self.uses)),
                "segments": str(self.segment_count),
                "segment_names": _names(self.segments),
                "lookalikes": str(self.lookalike_count),
                "lookalike_names": _names(self.lookalikes),
                "syncs": str(self.sync_count),
                "sync_names": _names(self.syncs),
            },
        )


def check_use(use: AudienceUse) -> AudienceUse:
    """The use as given. Raises InvalidArgument at `consumer_kind`, `consumer_id` or `description`."""
    if not _KIND.fullmatch(use.kind):
        raise InvalidArgument.at(
            "consumer_kind", "has other characters or another length; use 1 to 64 of a-z, 0-9, _ and -"
        )
    if not 0 < len(use.consumer_id) <= MAX_CONSUMER_ID_LENGTH or not use.consumer_id.isprintable():
        raise InvalidArgument.at(
            "consumer_id",
            f"is empty, too long or not printable; use 1 to {MAX_CONSUMER_ID_LENGTH} printable characters",
        )
    if len(use.description) > MAX_USE_DESCRIPTION_LENGTH:
        raise InvalidArgument.at(
            "description", f"has {len(use.description)} characters, more than {MAX_USE_DESCRIPTION_LENGTH}"
        )
    return use


def _names(references: tuple[AudienceReference, ...]) -> str:
    return ", ".join(each.name[:_MAX_NAME_IN_ERROR] for each in references)
