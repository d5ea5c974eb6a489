"""A warning that a correct result means little."""

from dataclasses import dataclass
from enum import StrEnum


class ResultRule(StrEnum):
    """The reason of a warning."""

    NEAR_CHANCE = "NEAR_CHANCE"
    NO_MEMBERS = "NO_MEMBERS"
    PROXY_FIELD = "PROXY_FIELD"
    FEW_MEMBERS = "FEW_MEMBERS"
    NO_VALUES = "NO_VALUES"


@dataclass(frozen=True, slots=True)
class ResultWarning:
    """A warning with its reason and advice. `subject` is the dimension or field that it is about, empty for all."""

    reason: ResultRule
    description: str
    subject: str = ""
