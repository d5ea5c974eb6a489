"""Lint rules on fields: no sampled record has the field, or a value of the type that the filter compares with."""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from bson import Decimal128, ObjectId

from audience_service.domain.filters.ast import (
    Condition,
    ElementIs,
    ElementMatch,
    Having,
    RecordDate,
    Related,
    Slice,
)
from audience_service.domain.filters.dates import read_instant
from audience_service.domain.filters.field_profile import FieldProfile
from audience_service.domain.filters.fields import display_path
from audience_service.domain.filters.lint.field_index import FieldIndex
from audience_service.domain.filters.lint.linted_filter import LintedFilter
from audience_service.domain.filters.lint.warning import FilterWarning, LintRule
from audience_service.domain.filters.operators import OPERATORS, TEXT_OPERATORS, Pattern

_NUMBER, _TEXT, _DATE, _DATE_TEXT, _BOOL = "a number", "text", "a date", "text that spells a date", "true or false"
_YEARLESS_DAY = "text that spells a day without a year"
_NUMBER_TEXT = "text that spells a number"
_OTHER_DATE, _NO_DATE = "text that spells a date, but has an offset or lacks seconds", "text that is not an ISO date"
_LIST, _OBJECT, _BINARY, _ID = "a list", "an object", "binary data", "an ObjectId"
_SPELLS_NUMBER = re.compile(r"\s*[-+]?\d+(?:[.,]\d+)*\s*", re.ASCII)
_ANY = frozenset(("anything",))

_BY_TYPE = {
    "double": _NUMBER, "int": _NUMBER, "long": _NUMBER, "decimal": _NUMBER, "string": _TEXT, "date": _DATE,
    "bool": _BOOL, "array": _LIST, "object": _OBJECT, "objectId": _ID, "binData": _BINARY,
}  # fmt: skip
"""The kind of a BSON type's values. All numeric types are one kind."""

_BY_CLASS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, _BOOL),  # before int, since bool is a subclass of int
    ((int, float, Decimal128), _NUMBER),
    (datetime, _DATE),
    (str, _TEXT),
    (bytes, _BINARY),
    (ObjectId, _ID),
    (list, _LIST),
    (Mapping, _OBJECT),
)

_NOT_IN_BUCKETS = {
    "array": _LIST, "object": _OBJECT, "bool": _BOOL, "date": _DATE, "decimal": "a decimal", "binData": _BINARY
}  # fmt: skip
"""The kinds of values that are in no bucket."""

_Kinds = frozenset[str]
_KINDS_OF_TEXT = frozenset((_DATE_TEXT, _YEARLESS_DAY))


def find_unknown_fields(linted: LintedFilter) -> Iterator[FilterWarning]:
    """The fields that no sampled record has, and that no schema declares."""
    for read in linted.reads():
        if read.index:
            yield from _unknown_field(read.path, read.field_path, read.index)


def _unknown_field(path: str, field_path: str, index: FieldIndex) -> Iterator[FilterWarning]:
    dotted = index.dotted(path)
    if index.has(path):
        if dotted:
            text = f"does not read {dotted}, which records also have: only $getField in $expr reads a name with a dot"
            yield FilterWarning(field_path, LintRule.UNKNOWN_FIELD, text)
        return
    if dotted:
        advice = f"; records have {dotted}, a name with a dot, which only $getField in $expr reads"
    else:
        similar = index.similar(path)
        advice = f"; did you mean {similar}?" if similar else ""
    text = f"reads {display_path(path)}, which no sampled record has{advice}"
    yield FilterWarning(field_path, LintRule.UNKNOWN_FIELD, text)


def find_unexpected_types(linted: LintedFilter) -> Iterator[FilterWarning]:
    """The operands whose type no sampled record has in their field, or only some have."""
    for conjunction, node, index in linted.own_conditions():
        match node:
            case Condition(path, operator, operand, field_path):
                expected = _EXPECTED_KINDS[operator.name](operand) if operator.name in _EXPECTED_KINDS else _ANY
            case ElementMatch(path, _, field_path) | ElementIs(path, _, field_path):
                expected = frozenset((_LIST,))
            case Related():
                for step in node.steps:
                    related = linted.indexes.get(step.datatype)
                    yield from _unequal_types(step, index, related)
                    if related:
                        yield from _unusable_values(step, related)
                for date in node.record_dates:
                    yield from _left_out(date.record_path, date.field_path, index, takes_dates=True, takes_lists=False)
                continue
            case RecordDate(path, field_path=field_path):
                yield from _left_out(path, field_path, index, takes_dates=True)
                continue
            case _:
                continue
        profile = index.profile(conjunction.path(path))
        observed = _observed_kinds(profile) if profile else frozenset[str]()
        if profile is None or not observed or expected == _ANY:
            continue
        name = display_path(conjunction.path(path))
        if isinstance(node, Condition) and (shape := _other_shape(node, profile)):
            text = f"compares with a date, but {name} is text of another form in the sampled records{shape}"
            yield FilterWarning(field_path, LintRule.TYPE_NEVER_OCCURS, text)
        elif not expected & observed:
            advice = _operator_advice(node.operand) if isinstance(node, Condition) else ""
            yield FilterWarning(field_path, LintRule.TYPE_NEVER_OCCURS, _type_text(name, expected, observed) + advice)
        elif isinstance(node, Condition) and (missed := _missed_kinds(node, profile)):
            yield FilterWarning(field_path, LintRule.MIXED_TYPES, _mixed_text(name, missed))


def _other_shape(node: Condition, profile: FieldProfile) -> str:
    """The advice about dates in a field that has no dates, but text in another form; empty for other conditions."""
    values = node.operand if node.operator.name in ("$in", "$nin", "$all") else [node.operand]
    is_date = node.operator.name in ("$onDay", "$anniversary")
    has_dates = is_date or any(isinstance(value, datetime) or read_instant(value) for value in values)
    usable = profile.date_texts + profile.types.get("date", 0.0) + profile.yearless_days
    if not has_dates or profile.other_dates == 0 or usable > 0:
        return ""
    return (
        f", like {profile.date_shape} (0 is a digit, a a letter) in {percent(profile.other_dates)} of them; "
        "store dates in ISO 8601, like 2026-11-20, or write the text as it is stored"
    )


def _operator_advice(operand: Any) -> str:
    """The advice about an object whose key is an operator without its dollar."""
    names = (f"${key}" for key in operand) if isinstance(operand, Mapping) else ()
    return next((f"; did you mean {name}?" for name in names if name in OPERATORS), "")


def find_empty_values(linted: LintedFilter) -> Iterator[FilterWarning]:
    """The tests whether a field exists, in fields that hold null or empty values: these exist as well."""
    for conjunction, literals in linted.literals:
        index = linted.indexes.get(conjunction.datatype)
        for found in literals if index else ():
            profile = index.profile(conjunction.path(found.path)) if index else None
            if found.name != "$exists" or profile is None or profile.empty_values == 0:
                continue
            if any(other.path == found.path and other.values is not None for other in literals):
                continue  # the other condition decides on empty values
            matches, idiom = ("matches", "$nin") if found.is_positive else ("does not match", "$in")
            text = (
                f"{matches} null and empty values, which are in {percent(profile.empty_values)} of the sampled "
                f'records; without them write {{"{idiom}": [null, "", []]}}'
            )
            if not found.is_positive:
                text = text.replace("without them", "to find them too")
            yield FilterWarning(found.condition.field_path, LintRule.EMPTY_EXISTS, text)


def _unequal_types(node: Related, index: FieldIndex, related: FieldIndex | None) -> Iterator[FilterWarning]:
    """The join whose two fields never have values of the same type."""
    local, foreign = index.profile(node.local), related.profile(node.foreign) if related else None
    kinds = [_observed_kinds(profile) - {_LIST, *_KINDS_OF_TEXT} for profile in (local, foreign) if profile]
    if len(kinds) == 2 and all(kinds) and not kinds[0] & kinds[1]:
        here, there = (" or ".join(sorted(each)) for each in kinds)
        text = f"is {there} in the sampled records, but {display_path(node.local)} is {here}; they are never equal"
        yield FilterWarning(f"{node.on_path}.foreign", LintRule.TYPE_NEVER_OCCURS, text)


def _unusable_values(step: Related, index: FieldIndex) -> Iterator[FilterWarning]:
    """The aggregates, and dates that order records, that can use no sampled value, or leave some of them out."""
    test = step.test
    dates = [(test.by, f"{test.field_path}.by")] if isinstance(test, Slice) else []
    for path, field_path in (*dates, *([(step.at, step.at_path)] if step.at else [])):
        yield from _left_out(path, field_path, index, takes_dates=True, takes_lists=False)
    for each in test.aggregates if isinstance(test, Having) else ():
        if each.function != "distinct":
            yield from _left_out(each.path, each.field_path, index, takes_dates=each.takes_dates)


def _left_out(
    path: str, field_path: str, index: FieldIndex, *, takes_dates: bool, takes_lists: bool = True
) -> Iterator[FilterWarning]:
    profile = index.profile(path)
    observed = _observed_kinds(profile) - {_LIST} if profile else frozenset[str]()
    if profile is None or not observed:
        return
    name, usable = display_path(path), _DATE if takes_dates else _NUMBER
    if not observed & ({_DATE, _DATE_TEXT} if takes_dates else {_NUMBER}):
        text = f"takes {usable}, but {name} is {' or '.join(sorted(observed))} in the sampled records"
        yield FilterWarning(field_path, LintRule.TYPE_NEVER_OCCURS, text)
        return
    shares: dict[str, float] = {} if takes_lists else {"missing": 1.0 - profile.fill_rate}
    for type_name, share in profile.types.items():
        kind = _BY_TYPE.get(type_name, f"of type {type_name}")
        if share > 0 and type_name != "null" and kind not in (usable, _LIST if takes_lists else usable):
            shares[kind] = max(share, shares.get(kind, 0.0))
    if takes_dates and _TEXT in shares:
        shares |= {_TEXT: 0.0, _OTHER_DATE: profile.unmatched_dates, _NO_DATE: profile.other_texts}
    if left_out := [(kind, share) for kind, share in sorted(shares.items()) if share > 0]:
        parts = " and ".join(f"{kind} in {percent(share)}" for kind, share in left_out)
        text = f"leaves out values that are not {usable}: {name} is {parts} of the sampled records"
        yield FilterWarning(field_path, LintRule.MIXED_TYPES, text)


def _missed_kinds(node: Condition, profile: FieldProfile) -> list[tuple[str, float]]:
    """The kinds of values that the author probably means, but the condition never matches, with their shares."""
    name = node.operator.name
    operands = node.operand if name in ("$in", "$nin", "$all") else [node.operand]
    shares: dict[str, float] = {}
    has_number = any(isinstance(operand, int | float | Decimal128) for operand in operands)
    number_share = max((share for kind, share in profile.types.items() if _BY_TYPE.get(kind) == _NUMBER), default=0.0)
    for operand in operands:
        if isinstance(operand, datetime) or read_instant(operand):
            dates = max(profile.types.get("date", 0.0), profile.date_texts)
            if dates > 0:
                shares |= {
                    "a number": number_share,
                    _OTHER_DATE: profile.unmatched_dates,
                    _NO_DATE: profile.other_texts,
                }
                if isinstance(operand, datetime):
                    shares['text that spells a date, which a {"$date": ...} never equals'] = profile.date_texts
        elif isinstance(operand, int | float | Decimal128) and not isinstance(operand, bool):
            has_text = any(isinstance(other, str) for other in operands)
            shares[_NUMBER_TEXT] = 0.0 if has_text else profile.number_texts
        elif isinstance(operand, bool):
            has_other = any(not isinstance(other, bool) for other in operands)
            shares |= {} if has_other else {_TEXT: profile.types.get("string", 0.0), _NUMBER: number_share}
        elif operand in ("true", "false"):
            shares[_BOOL] = 0.0 if True in operands or False in operands else profile.types.get("bool", 0.0)
        elif isinstance(operand, str) and _SPELLS_NUMBER.fullmatch(operand):
            shares[_NUMBER] = 0.0 if has_number else number_share
    if name in ("$regex", "$nearCity", *TEXT_OPERATORS):
        shares[_NUMBER] = number_share
        shares[_DATE] = profile.types.get("date", 0.0)
    if name in ("$mod", "$bitsAllSet", "$bitsAllClear", "$bitsAnySet", "$bitsAnyClear"):
        shares[_NUMBER_TEXT] = profile.number_texts
    if name == "$geoWithin":
        shares[_TEXT] = profile.types.get("string", 0.0)
    if name == "$bucket":
        shares = {kind: share for type_name, share in profile.types.items() if (kind := _NOT_IN_BUCKETS.get(type_name))}
        shares["null or missing"] = 1 - profile.fill_rate
    if name in ("$onDay", "$anniversary"):
        days = profile.yearless_days if name == "$anniversary" else 0.0
        shares |= {_NUMBER: number_share, _NO_DATE: profile.other_texts - days}
    return [(kind, share) for kind, share in shares.items() if share > 0]


def _mixed_text(field: str, missed: list[tuple[str, float]]) -> str:
    parts = " and ".join(f"{kind} in {percent(share)}" for kind, share in missed)
    return (
        f"never matches some of the sampled records: {field} is {parts} of them; a negation matches these;"
        " convert the values, or compare by $expr with $convert"
    )


def percent(share: float) -> str:
    """A share in per cent, without decimals."""
    return f"{share:.0%}" if share >= 0.01 else "less than 1%"


def _type_text(field: str, expected: _Kinds, observed: _Kinds) -> str:
    kinds, others = " or ".join(sorted(expected - _KINDS_OF_TEXT)), " or ".join(sorted(observed - {_YEARLESS_DAY}))
    is_date_text = expected == {_DATE} and _DATE_TEXT in observed
    advice = "; write the date as text, like 2026-03-25, which matches both" if is_date_text else ""
    return f"compares with {kinds}, but {field} is {others} in the sampled records{advice}"


def _observed_kinds(profile: FieldProfile) -> _Kinds:
    """The kinds of a field's values, without null."""
    types = {name for name, share in profile.types.items() if share > 0 and name != "null"}
    texts = {_DATE_TEXT} if profile.date_texts > 0 else set()
    texts |= {_YEARLESS_DAY} if profile.yearless_days > 0 else set()
    return frozenset({_BY_TYPE.get(name, f"of type {name}") for name in types} | texts)


def _kinds_of(value: Any) -> _Kinds:
    """The kinds of field that can equal a value."""
    if value is None:
        return _ANY
    if isinstance(value, Pattern):
        return frozenset((_TEXT,))
    if read_instant(value):
        return frozenset((_DATE, _DATE_TEXT, _TEXT))
    return next((frozenset((kind,)) for of_class, kind in _BY_CLASS if isinstance(value, of_class)), _ANY)


def _kinds_of_all(values: list[Any]) -> _Kinds:
    kinds = [_kinds_of(value) for value in values]
    return _ANY if _ANY in kinds or not kinds else frozenset[str]().union(*kinds)


def _comparable_kinds(value: Any) -> _Kinds:
    """The kinds of field that can be less or greater than a value. Other text never compares with an ISO date."""
    return frozenset((_DATE, _DATE_TEXT)) if read_instant(value) else _kinds_of(value)


def _constant_kinds(*kinds: str) -> Callable[[Any], _Kinds]:
    return lambda _: frozenset(kinds)


_EXPECTED_KINDS: dict[str, Callable[[Any], _Kinds]] = {
    **dict.fromkeys(("$eq", "$ne"), _kinds_of),
    **dict.fromkeys(("$gt", "$gte", "$lt", "$lte"), _comparable_kinds),
    **dict.fromkeys(("$in", "$nin", "$all"), _kinds_of_all),
    **dict.fromkeys(("$regex", "$nearCity", *TEXT_OPERATORS), _constant_kinds(_TEXT)),
    "$onDay": _constant_kinds(_DATE, _DATE_TEXT),
    "$bucket": _constant_kinds(_TEXT, _NUMBER, _ID),
    "$anniversary": _constant_kinds(_DATE, _DATE_TEXT, _YEARLESS_DAY),
    "$size": _constant_kinds(_LIST),
    "$geoWithin": _constant_kinds(_LIST, _OBJECT),
    "$mod": _constant_kinds(_NUMBER),
    **dict.fromkeys(
        ("$bitsAllSet", "$bitsAllClear", "$bitsAnySet", "$bitsAnyClear"), _constant_kinds(_NUMBER, _BINARY)
    ),
}
"""The kinds of field that an operator can match, given its operand. Other operators match any kind."""
