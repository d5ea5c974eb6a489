"""The version of a segment: the segment between two writes, its editor, and the changed fields."""

from dataclasses import dataclass

from audience_service.domain.segments.model import Segment


@dataclass(frozen=True, slots=True)
class SegmentVersion:
    """A segment at one version, and the names of the fields that differ from the version before."""

    segment: Segment
    changed_fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class VersionPage:
    """One page of a segment's versions, newest first, without `contact_count`.

    `preceding` is the version before the oldest of the page, None on the last page.
    """

    versions: tuple[Segment, ...]
    preceding: Segment | None
    total: int


def changed_fields(before: Segment | None, after: Segment) -> tuple[str, ...]:
    """The fields that the write of `after` changed; empty if `before` is unknown, as for the first version."""
    if before is None:
        return ()
    changed = [name for name in ("name", "description", "filter", "state") if _differs(name, before, after)]
    return (*changed, "contacts") if after.list_edited else tuple(changed)


def _differs(name: str, before: Segment, after: Segment) -> bool:
    return bool(getattr(before, name) != getattr(after, name))
