"""What a sample of the org's records says of a filter's fields: that no record has one, or none a value of a type."""

import difflib
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from bson import Decimal128, ObjectId

from audience_service.domain.filters.ast import Condition, ElementIs, ElementMatch, Expression, Node, Related
from audience_service.domain.filters.dates import read_instant
from audience_service.domain.filters.field_profile import FieldProfile
from audience_service.domain.filters.fields import SYSTEM_FIELDS, display_path
from audience_service.domain.filters.lint.conjunctions import Conjunction, conjunctions, unwrap_negation
from audience_service.domain.filters.lint.warning import FilterWarning, LintRule

_MAX_ADVICE = 20
"""How many unknown fields a known one of a similar name is looked for, which takes its time."""

_NUMBER, _TEXT, _DATE, _DATE_TEXT, _BOOL = "a number", "text", "a date", "text that spells a date", "true or false"
_LIST, _OBJECT, _BINARY, _ID = "a list", "an object", "binary data", "an ObjectId"
_ANY = frozenset(("anything",))

_BY_TYPE = {
    "double": _NUMBER, "int": _NUMBER, "long": _NUMBER, "decimal": _NUMBER, "string": _TEXT, "date": _DATE,
    "bool": _BOOL, "array": _LIST, "object": _OBJECT, "objectId": _ID, "binData": _BINARY,
}  # fmt: skip
"""What a value of a BSON type is; a number is a number whatever its type."""

_BY_CLASS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, _BOOL),  # before int, which it is too
    ((int, float, Decimal128), _NUMBER),
    (datetime, _DATE),
    (str, _TEXT),
    (bytes, _BINARY),
    (ObjectId, _ID),
    (list, _LIST),
    (Mapping, _OBJECT),
)

_Kinds = frozenset[str]


def field_warnings(node: Node, fields: Mapping[str, FieldProfile]) -> Iterator[FilterWarning]:
    """The fields that no sampled record has, and the values of types that none of them has there."""
    index = _FieldIndex(fields)
    for conjunction in conjunctions(node, ""):
        if conjunction.is_related:
            continue  # its fields are another datatype's
        for inner in conjunction.nodes:
            inner_node, _ = unwrap_negation(inner)
            unknown = list(_unknown_field_warnings(conjunction, inner_node, index))
            yield from unknown or _type_warnings(conjunction, inner_node, index)


class _FieldIndex:
    """The fields that are known, by their paths without places in lists."""

    def __init__(self, fields: Mapping[str, FieldProfile]) -> None:
        self._profiles = {_without_positions(path): profile for path, profile in fields.items()}
        self._by_name = {_name(path): display_path(path) for path in self._profiles}
        parents = (path.split(".")[:length] for path in self._profiles for length in range(1, path.count(".") + 1))
        self._parents = {".".join(steps) for steps in parents}
        self._suggestion_count = 0

    def profile(self, path: str) -> FieldProfile | None:
        """The profile of a field."""
        return self._profiles.get(_without_positions(path))

    def has(self, path: str) -> bool:
        """Whether records have the field, or may: of what is inside an object, there may be no profiles."""
        path = _without_positions(path)
        if path.partition(".")[0] in SYSTEM_FIELDS or path in self._profiles or path in self._parents:
            return True
        steps = path.split(".")
        for length in range(len(steps) - 1, 0, -1):
            parent = ".".join(steps[:length])
            if parent in self._parents:
                return False
            if profile := self._profiles.get(parent):
                return bool({"object", "array"} & set(profile.types))
        return False

    def similar(self, path: str) -> str:
        """The known field whose name is the most like a path, empty where none is."""
        self._suggestion_count += 1
        if self._suggestion_count > _MAX_ADVICE:
            return ""
        near = difflib.get_close_matches(_name(_without_positions(path)), self._by_name, n=1)
        return self._by_name[near[0]] if near else ""


def _without_positions(path: str) -> str:
    return ".".join(step for step in path.split(".") if not step.isdecimal())


def _name(path: str) -> str:
    """What a path is compared with others by."""
    return path.removeprefix("data.").casefold()


def _paths(conjunction: Conjunction, node: Node) -> Iterator[tuple[str, str]]:
    """The paths that a node reads, with their places."""
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


def _unknown_field_warnings(conjunction: Conjunction, node: Node, index: _FieldIndex) -> Iterator[FilterWarning]:
    for path, field_path in _paths(conjunction, node):
        if not index.has(path):
            similar = index.similar(path)
            advice = f"; did you mean {similar}?" if similar else ""
            text = f"reads {display_path(path)}, which no record of those sampled has{advice}"
            yield FilterWarning(field_path, LintRule.UNKNOWN_FIELD, text)


def _type_warnings(conjunction: Conjunction, node: Node, index: _FieldIndex) -> Iterator[FilterWarning]:
    match node:
        case Condition(path, operator, operand, field_path):
            expected = _EXPECTED_KINDS[operator.name](operand) if operator.name in _EXPECTED_KINDS else _ANY
        case ElementMatch(path, _, field_path) | ElementIs(path, _, field_path):
            expected = frozenset((_LIST,))
        case _:
            return
    profile = index.profile(conjunction.path(path))
    found = _observed_kinds(profile) if profile else frozenset[str]()
    if not found or expected == _ANY or expected & found:
        return
    field = display_path(conjunction.path(path))
    text = f"compares with {' or '.join(sorted(expected - {_DATE_TEXT}))}, but {field} is {' or '.join(sorted(found))}"
    advice = "; a date as text, like 2026-03-25, stands for both" if expected == {_DATE} and _DATE_TEXT in found else ""
    yield FilterWarning(field_path, LintRule.TYPE_NEVER_OCCURS, f"{text} in the records sampled{advice}")


def _observed_kinds(profile: FieldProfile) -> _Kinds:
    """What a field's values are, null left out."""
    types = {name for name, share in profile.types.items() if share > 0 and name != "null"}
    texts = {_DATE_TEXT} if profile.date_texts > 0 else set()
    return frozenset({_BY_TYPE.get(name, f"of type {name}") for name in types} | texts)


def _kinds_of(value: Any) -> _Kinds:
    """What a field must be to equal a value."""
    if value is None:
        return _ANY
    if read_instant(value):
        return frozenset((_DATE, _DATE_TEXT, _TEXT))
    return next((frozenset((kind,)) for of_class, kind in _BY_CLASS if isinstance(value, of_class)), _ANY)


def _kinds_of_all(values: list[Any]) -> _Kinds:
    kinds = [_kinds_of(value) for value in values]
    return _ANY if _ANY in kinds or not kinds else frozenset[str]().union(*kinds)


def _comparable_kinds(value: Any) -> _Kinds:
    """What a field must be to come before a value or after it: an ISO date is compared with no other text."""
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
"""What the operators that compare with a type want a field to be."""
