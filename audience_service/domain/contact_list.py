"""The list of an audience, as what has members."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ContactList:
    """The list of a static segment: records of one datatype, by reference."""

    audience_id: str
    datatype: str
