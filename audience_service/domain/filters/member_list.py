"""The member list of an audience."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class MemberList:
    """Stored references to records of one datatype: the list of a static segment, or the rows of a snapshot.

    `audience_id` is the id that the rows contain. The members are the records on the list that are not archived. With
    `include_inactive` all records on the list are members, even deleted ones.
    """

    list_id: str
    datatype: str
    version: int | None = field(default=None, compare=False)
    """The segment's version at the time of reading. A higher version makes cached facts about the list stale."""
    include_inactive: bool = False
    field_path: str = field(default="audience_id", compare=False)
    """The path of the audience's id in the request."""
