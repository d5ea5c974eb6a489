"""The use of an audience: who rests on it, and the checks on what a caller may say of that."""

import re
from dataclasses import dataclass
from datetime import datetime

from audience_service.domain.errors import InvalidArgument

MAX_USER_ID_LENGTH = 200
MAX_USE_DESCRIPTION_LENGTH = 200

_KIND = re.compile(r"[a-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class AudienceUse:
    """Somebody's word that they use an audience; one for each audience, kind and user id.

    `subject` and `create_time` are the service's to give.
    """

    audience_id: str
    kind: str
    user_id: str
    description: str = ""
    subject: str = ""
    create_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class SegmentName:
    """A segment as it is referred to."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What uses an audience: living segments that refer to it and registered uses; the first of each, all counted."""

    segments: tuple[SegmentName, ...]
    segment_count: int
    uses: tuple[AudienceUse, ...]
    use_count: int


def check_use(use: AudienceUse) -> AudienceUse:
    """The use as given. Raises InvalidArgument at `kind`, `user_id` or `description`."""
    if not _KIND.fullmatch(use.kind):
        raise InvalidArgument.at("kind", "is 1 to 64 of the characters a-z 0-9 _ -")
    if not 0 < len(use.user_id) <= MAX_USER_ID_LENGTH or not use.user_id.isprintable():
        raise InvalidArgument.at("user_id", f"is 1 to {MAX_USER_ID_LENGTH} printable characters")
    if len(use.description) > MAX_USE_DESCRIPTION_LENGTH:
        raise InvalidArgument.at(
            "description", f"has {len(use.description)} characters, more than {MAX_USE_DESCRIPTION_LENGTH}"
        )
    return use
