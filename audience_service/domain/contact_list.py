"""The list of an audience, as what has members."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ContactList:
    """The list of a static segment: records of one datatype, by reference."""

    audience_id: str
    datatype: str
    version: int | None = field(default=None, compare=False)
    """The segment's version when it was read, by which what is known of the list is known to be old."""
