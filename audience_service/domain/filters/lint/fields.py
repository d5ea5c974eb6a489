"""Lint rules on fields: no sampled record has the field, or a value of the type that the filter compares with."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from bson import Decimal128, ObjectId

from audience_service.domain.filters.ast import Condition, ElementIs, ElementMatch, Expression, Node, Related
from audience_service.domain.filters.dates import read_instant
from audience_service.domain.filters.field_profile import FieldProfile
from audience_service.domain.filters.fields import display_path
from audience_service.domain.filters.lint.conjunctions import Conjunction, unwrap_negation
from audience_service.domain.filters.lint.linted_filter import LintedFilter
from audience_service.domain.filters.lint.warning import FilterWarning, LintRule

_NUMBER, _TEXT, _DATE, _DATE_TEXT, _BOOL = "a number", "text", "a date", "text that spells a date", "true or false"
_LIST, _OBJECT, _BINARY, _ID = "a list", "an object", "binary data", "an ObjectId"
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

_Kinds = frozenset[str]


def find_unknown_fields(linted: LintedFilter) -> Iterator[FilterWarning]:
    """The fields that no sampled record has, and that no schema declares."""
    if linted.index is None:
        return
    for conjunction, node in _own_conditions(linted):
        for path, field_path in _paths(conjunction, node):
            if not linted.index.has(path):
                similar = linted.index.similar(path)
                advice = f"; did you mean {similar}?" if similar else ""
                text = f"reads {display_path(path)}, which no sampled record has{advice}"
                yield FilterWarning(field_path, LintRule.UNKNOWN_FIELD, text)


def find_unexpected_types(linted: LintedFilter) -> Iterator[FilterWarning]:
    """The operands whose type no sampled record has in their field."""
    if linted.index is None:
        return
    for conjunction, node in _own_conditions(linted):
        match node:
            case Condition(path, operator, operand, field_path):
                expected = _EXPECTED_KINDS[operator.name](operand) if operator.name in _EXPECTED_KINDS else _ANY
            case ElementMatch(path, _, field_path) | ElementIs(path, _, field_path):
                expected = frozenset((_LIST,))
            case _:
                continue
        profile = linted.index.profile(conjunction.path(path))
        observed = _observed_kinds(profile) if profile else frozenset[str]()
        if observed and expected != _ANY and not expected & observed:
            text = _type_text(display_path(conjunction.path(path)), expected, observed)
            yield FilterWarning(field_path, LintRule.TYPE_NEVER_OCCURS, text)


def _own_conditions(linted: LintedFilter) -> Iterator[tuple[Conjunction, Node]]:
    """The conditions on the records themselves, without negations. Related records have other fields."""
    for conjunction in linted.conjunctions:
        if not conjunction.is_related:
            for node in conjunction.nodes:
                yield conjunction, unwrap_negation(node)[0]


def _paths(conjunction: Conjunction, node: Node) -> Iterator[tuple[str, str]]:
    """The paths that a node reads, each with its field path in the filter."""
    match node:
        case (
            Condition(path, field_path=field_path)
            | ElementMatch(path, field_path=field_path)
            | ElementIs(path, field_path=field_path)
        ):
            yield conjunction.path(path), field_path
        case Expression(_, paths, field_path):
            for path in paths:
                yield path, field_path
        case Related(local=local, field_path=field_path):
            yield local, f"{field_path}.on.local"


def _type_text(field: str, expected: _Kinds, observed: _Kinds) -> str:
    kinds, others = " or ".join(sorted(expected - {_DATE_TEXT})), " or ".join(sorted(observed))
    is_date_text = expected == {_DATE} and _DATE_TEXT in observed
    advice = "; write the date as text, like 2026-03-25, which matches both" if is_date_text else ""
    return f"compares with {kinds}, but {field} is {others} in the sampled records{advice}"


def _observed_kinds(profile: FieldProfile) -> _Kinds:
    """The kinds of a field's values, without null."""
    types = {name for name, share in profile.types.items() if share > 0 and name != "null"}
    texts = {_DATE_TEXT} if profile.date_texts > 0 else set()
    return frozenset({_BY_TYPE.get(name, f"of type {name}") for name in types} | texts)


def _kinds_of(value: Any) -> _Kinds:
    """The kinds of field that can equal a value."""
    if value is None:
        return _ANY
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
    "$regex": _constant_kinds(_TEXT),
    "$size": _constant_kinds(_LIST),
    "$mod": _constant_kinds(_NUMBER),
    **dict.fromkeys(
        ("$bitsAllSet", "$bitsAllClear", "$bitsAnySet", "$bitsAnyClear"), _constant_kinds(_NUMBER, _BINARY)
    ),
}
"""The kinds of field that an operator can match, given its operand. Other operators match any kind."""
