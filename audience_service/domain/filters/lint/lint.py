"""Lints a filter: warnings about a valid filter whose author probably meant something else.

To add a rule, write a function that finds its warnings, and its row in RULES. Then add pairs to
tests/data/warnings.json. A new reason also belongs in LintRule and docs/reference/filters.md.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from audience_service.domain.filters.ast import Node
from audience_service.domain.filters.field_profile import FieldProfile
from audience_service.domain.filters.lint.comparisons import (
    find_list_comparisons,
    find_missing_less,
    find_null_bounds,
    find_text_order,
)
from audience_service.domain.filters.lint.date_operands import find_days, find_near_dates
from audience_service.domain.filters.lint.elements import find_separate_elements, find_whole_objects
from audience_service.domain.filters.lint.field_index import FieldIndex
from audience_service.domain.filters.lint.fields import find_empty_values, find_unexpected_types, find_unknown_fields
from audience_service.domain.filters.lint.foreign_patterns import find_foreign_patterns
from audience_service.domain.filters.lint.linted_filter import LintedFilter
from audience_service.domain.filters.lint.places import find_small_places
from audience_service.domain.filters.lint.stale_dates import find_stale_dates
from audience_service.domain.filters.lint.system_fields import find_system_fields
from audience_service.domain.filters.lint.tautologies import (
    find_alternative_negations,
    find_archived_states,
    find_constant_counts,
    find_constant_groups,
    find_constant_operands,
    find_contradictions,
    find_disjoint_bounds,
    find_other_datatypes,
    find_required_absent_fields,
)
from audience_service.domain.filters.lint.warning import FilterWarning, LintRule

MAX_WARNINGS = 100


@dataclass(frozen=True, slots=True)
class Rule:
    """A row: the reasons of the rule's warnings, the function that finds them, and the rule in one sentence."""

    reasons: tuple[LintRule, ...]
    find: Callable[[LintedFilter], Iterable[FilterWarning]]
    sentence: str


_FALSE, _EITHER = (LintRule.ALWAYS_FALSE,), (LintRule.ALWAYS_FALSE, LintRule.ALWAYS_TRUE)

RULES = (
    Rule((LintRule.FROZEN_WINDOW,), find_stale_dates, "A fixed date is used like the start of a rolling window."),
    Rule(_EITHER, find_constant_operands, "An operand decides its operator: every value meets it, or no value does."),
    Rule(_EITHER, find_constant_groups, "An $or or $nor has an empty condition, or a condition and its negation."),
    Rule(_EITHER, find_constant_counts, "A count of related records allows every number, or no number."),
    Rule(_FALSE, find_contradictions, "A condition requires a value that other conditions exclude."),
    Rule(_FALSE, find_disjoint_bounds, "Bounds on a single value exclude each other."),
    Rule(_FALSE, find_required_absent_fields, "A condition needs a field that must not exist."),
    Rule(_FALSE, find_other_datatypes, "A condition selects records of another datatype."),
    Rule(_FALSE, find_archived_states, "A condition selects archived records, which the active guard leaves out."),
    Rule(
        (LintRule.NEARLY_ALWAYS_TRUE,), find_alternative_negations, "An $or negates different conditions on one field."
    ),
    Rule((LintRule.SYSTEM_FIELD,), find_system_fields, "A system field has the name of a field of the payload."),
    Rule((LintRule.SMALL_PLACES,), find_small_places, "Places smaller than the packaged cities are left out."),
    Rule((LintRule.PATTERN_AS_TEXT,), find_foreign_patterns, "Text has the form of a pattern in another language."),
    Rule((LintRule.TEXT_ORDER,), find_text_order, "Text that spells a number is compared by its characters."),
    Rule((LintRule.MISSING_IS_LESS,), find_null_bounds, "A bound is null, which only null and missing fields meet."),
    Rule((LintRule.MISSING_IS_LESS,), find_missing_less, "A missing field meets a comparison in an expression."),
    Rule(
        (LintRule.UNKNOWN_FIELD,),
        find_unknown_fields,
        "No sampled record has the field, or a key with dots is read as a path.",
    ),
    Rule(
        (LintRule.TYPE_NEVER_OCCURS, LintRule.MIXED_TYPES),
        find_unexpected_types,
        "No sampled record has a value of the operand's type, or only some have.",
    ),
    Rule((LintRule.TYPE_NEVER_OCCURS,), find_list_comparisons, "An expression compares a list with a single value."),
    Rule((LintRule.NOT_A_DATE,), find_near_dates, "A field that holds dates, or may hold them, is compared with text."),
    Rule((LintRule.DAY_IS_MIDNIGHT,), find_days, "A day alone means midnight in UTC."),
    Rule((LintRule.EMPTY_EXISTS,), find_empty_values, "A test that a field exists counts empty values as existing."),
    Rule((LintRule.SEPARATE_ELEMENTS,), find_separate_elements, "Different elements of a list may meet conditions."),
    Rule((LintRule.WHOLE_OBJECT,), find_whole_objects, "An object without some of its keys is compared as a whole."),
)
"""The rules, in the order of their warnings. From UNKNOWN_FIELD on they need a sample of the org's records."""


def lint_filter(
    node: Node,
    now: datetime,
    fields: Mapping[str, FieldProfile] | None = None,
    *,
    datatype: str = "",
    related: Mapping[str, Mapping[str, FieldProfile]] | None = None,
) -> list[FilterWarning]:
    """The warnings about a filter's parsed nodes: at most MAX_WARNINGS, one for each field path and reason.

    `fields` are the profiles of the datatype's fields by path in the record, `related` those of related datatypes.
    Without them, or without `datatype`, the rules that need them give no warnings.
    """
    profiles = {**(related or {}), datatype: fields or {}}
    indexes = {name: FieldIndex.of(found) for name, found in profiles.items() if found}
    linted = LintedFilter(node, now, datatype, indexes)
    found = [warning for rule in RULES for warning in rule.find(linted)]
    distinct = {(warning.field_path, warning.reason): warning for warning in reversed(found)}
    return list(reversed(distinct.values()))[:MAX_WARNINGS]
