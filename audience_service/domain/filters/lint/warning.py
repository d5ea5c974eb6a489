"""A warning about a filter: it can be run, and probably does not mean what it says."""

from dataclasses import dataclass
from enum import StrEnum


class LintRule(StrEnum):
    """What is wrong with a place in a filter."""

    FROZEN_WINDOW = "FROZEN_WINDOW"
    ALWAYS_TRUE = "ALWAYS_TRUE"
    ALWAYS_FALSE = "ALWAYS_FALSE"
    UNKNOWN_FIELD = "UNKNOWN_FIELD"
    TYPE_NEVER_OCCURS = "TYPE_NEVER_OCCURS"


@dataclass(frozen=True, slots=True)
class FilterWarning:
    """One place in a filter (`where.$and[0].score.$gte`), what is wrong there, and what would be right."""

    field_path: str
    reason: str
    description: str
