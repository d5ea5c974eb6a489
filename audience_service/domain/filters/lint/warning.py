"""A warning about a valid filter whose author probably meant something else."""

from dataclasses import dataclass
from enum import StrEnum


class LintRule(StrEnum):
    """The reason of a warning."""

    FROZEN_WINDOW = "FROZEN_WINDOW"
    ALWAYS_TRUE = "ALWAYS_TRUE"
    ALWAYS_FALSE = "ALWAYS_FALSE"
    UNKNOWN_FIELD = "UNKNOWN_FIELD"
    TYPE_NEVER_OCCURS = "TYPE_NEVER_OCCURS"
    MIXED_TYPES = "MIXED_TYPES"
    SYSTEM_FIELD = "SYSTEM_FIELD"
    NOT_A_DATE = "NOT_A_DATE"
    DAY_IS_MIDNIGHT = "DAY_IS_MIDNIGHT"
    EMPTY_EXISTS = "EMPTY_EXISTS"
    TEXT_ORDER = "TEXT_ORDER"
    SEPARATE_ELEMENTS = "SEPARATE_ELEMENTS"
    WHOLE_OBJECT = "WHOLE_OBJECT"
    NEARLY_ALWAYS_TRUE = "NEARLY_ALWAYS_TRUE"
    EXPRESSION_FAILS = "EXPRESSION_FAILS"
    BUCKETS_DIFFER = "BUCKETS_DIFFER"
    UNKNOWN_TIMEZONE = "UNKNOWN_TIMEZONE"
    UNKNOWN_COUNTRY = "UNKNOWN_COUNTRY"
    SMALL_PLACES = "SMALL_PLACES"
    PATTERN_AS_TEXT = "PATTERN_AS_TEXT"
    LOOKUP_PER_RECORD = "LOOKUP_PER_RECORD"
    MISSING_IS_LESS = "MISSING_IS_LESS"


@dataclass(frozen=True, slots=True)
class FilterWarning:
    """A warning at a field path in a filter (`where.$and[0].score.$gte`), with its reason and advice."""

    field_path: str
    reason: str
    description: str
