"""The list of an audience, as what has members."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class MemberList:
    """Records of one datatype, by reference: the list of a static segment, or the rows of a snapshot.

    `audience_id` is what the rows carry. The members are those on it that are in use, or all of them where it is
    `frozen`, whatever has become of their records.
    """

    audience_id: str
    datatype: str
    version: int | None = field(default=None, compare=False)
    """The segment's version when it was read, by which what is known of the list is known to be old."""
    include_inactive: bool = False
    field_path: str = field(default="audience_id", compare=False)
    """Where the request names it."""
