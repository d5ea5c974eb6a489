"""The use of an audience: its consumers, and the checks on what a caller may register."""

import re
from dataclasses import dataclass
from datetime import datetime

from audience_service.domain.core.errors import AudienceInUse, InvalidArgument

MAX_CONSUMER_ID_LENGTH = 200
MAX_USE_DESCRIPTION_LENGTH = 200

_MAX_NAME_IN_ERROR = 50
"""How much of a name an error tells: it travels in a trailer, which is small."""

_KIND = re.compile(r"[a-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class AudienceUse:
    """The registration of one consumer of an audience; one for each audience, kind and user id.

    The service sets `subject` and `create_time`.
    """

    audience_id: str
    kind: str
    consumer_id: str
    description: str = ""
    registrant: str = ""
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class AudienceReference:
    """A segment or a lookalike as it is referred to."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What uses an audience: the first of each kind, and how many there are.

    `segments` are living ones whose filter refers to it, `uses` are registered, `lookalikes` have it for their source.
    """

    segments: tuple[AudienceReference, ...]
    segment_count: int
    uses: tuple[AudienceUse, ...]
    use_count: int
    lookalikes: tuple[AudienceReference, ...] = ()
    lookalike_count: int = 0

    @property
    def is_used(self) -> bool:
        """Whether there is any use."""
        return self.use_count > 0 or self.segment_count > 0 or self.lookalike_count > 0

    def to_error(self) -> AudienceInUse:
        """The error of a deletion that the use forbids."""
        return AudienceInUse(
            f"the audience is in use: {self.use_count} registered uses, {self.segment_count} segments that refer to it "
            f"and {self.lookalike_count} lookalikes of it; release and remove them, or delete with force",
            metadata={
                "uses": str(self.use_count),
                "kinds": ", ".join(dict.fromkeys(use.kind for use in self.uses)),
                "segments": str(self.segment_count),
                "segment_names": _names(self.segments),
                "lookalikes": str(self.lookalike_count),
                "lookalike_names": _names(self.lookalikes),
            },
        )


def check_use(use: AudienceUse) -> AudienceUse:
    """The use as given. Raises InvalidArgument at `consumer_kind`, `consumer_id` or `description`."""
    if not _KIND.fullmatch(use.kind):
        raise InvalidArgument.at("consumer_kind", "is 1 to 64 of the characters a-z 0-9 _ -")
    if not 0 < len(use.consumer_id) <= MAX_CONSUMER_ID_LENGTH or not use.consumer_id.isprintable():
        raise InvalidArgument.at("consumer_id", f"is 1 to {MAX_CONSUMER_ID_LENGTH} printable characters")
    if len(use.description) > MAX_USE_DESCRIPTION_LENGTH:
        raise InvalidArgument.at(
            "description", f"has {len(use.description)} characters, more than {MAX_USE_DESCRIPTION_LENGTH}"
        )
    return use


def _names(references: tuple[AudienceReference, ...]) -> str:
    return ", ".join(each.name[:_MAX_NAME_IN_ERROR] for each in references)
