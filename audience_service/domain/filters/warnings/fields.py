"""What a sample of the org's records says of a filter's fields: that no record has one, or none a value of a type."""

import difflib
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from bson import Decimal128, ObjectId

from audience_service.domain.fields.profile import FieldProfile
from audience_service.domain.filters.dates import read_instant
from audience_service.domain.filters.fields import SYSTEM_FIELDS, written_path
from audience_service.domain.filters.nodes import Condition, ElementIs, ElementMatch, Expression, Node, Related
from audience_service.domain.filters.warnings.conjunctions import Conjunction, conjunctions, leaf
from audience_service.domain.filters.warnings.warning import FilterWarning, Reason

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
    known = _Known(fields)
    for conjunction in conjunctions(node, ""):
        if conjunction.related:
            continue  # its fields are another datatype's
        for inner in conjunction.nodes:
            said, _ = leaf(inner)
            unknown = list(_unknown(conjunction, said, known))
            yield from unknown or _of_other_type(conjunction, said, known)


class _Known:
    """The fields that are known, by their paths without places in lists."""

    def __init__(self, fields: Mapping[str, FieldProfile]) -> None:
        self._profiles = {_unindexed(path): profile for path, profile in fields.items()}
        self._by_name = {_name(path): written_path(path) for path in self._profiles}
        parents = (path.split(".")[:length] for path in self._profiles for length in range(1, path.count(".") + 1))
        self._parents = {".".join(steps) for steps in parents}
        self._advised = 0

    def profile(self, path: str) -> FieldProfile | None:
        """The profile of a field."""
        return self._profiles.get(_unindexed(path))

    def has(self, path: str) -> bool:
        """Whether records have the field, or may: of what is inside an object, there may be no profiles."""
        path = _unindexed(path)
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
        self._advised += 1
        if self._advised > _MAX_ADVICE:
            return ""
        near = difflib.get_close_matches(_name(_unindexed(path)), self._by_name, n=1)
        return self._by_name[near[0]] if near else ""


def _unindexed(path: str) -> str:
    return ".".join(step for step in path.split(".") if not step.isdecimal())


def _name(path: str) -> str:
    """What a path is compared with others by."""
    return path.removeprefix("data.").casefold()


def _paths(conjunction: Conjunction, node: Node) -> Iterator[tuple[str, str]]:
    """The paths that a node reads, with their places."""
    match node:
        case Condition(path, place=place) | ElementMatch(path, place=place) | ElementIs(path, place=place):
            yield conjunction.path(path), place
        case Expression(_, paths, place):
            for path in paths:
                yield path, place
        case Related(local=local, place=place):
            yield local, f"{place}.on.local"


def _unknown(conjunction: Conjunction, node: Node, known: _Known) -> Iterator[FilterWarning]:
    for path, place in _paths(conjunction, node):
        if not known.has(path):
            similar = known.similar(path)
            advice = f"; did you mean {similar}?" if similar else ""
            text = f"reads {written_path(path)}, which no record of those sampled has{advice}"
            yield FilterWarning(place, Reason.UNKNOWN_FIELD, text)


def _of_other_type(conjunction: Conjunction, node: Node, known: _Known) -> Iterator[FilterWarning]:
    match node:
        case Condition(path, operator, operand, place):
            asked = _COMPARED[operator.name](operand) if operator.name in _COMPARED else _ANY
        case ElementMatch(path, _, place) | ElementIs(path, _, place):
            asked = frozenset((_LIST,))
        case _:
            return
    profile = known.profile(conjunction.path(path))
    found = _occurring(profile) if profile else frozenset[str]()
    if not found or asked == _ANY or asked & found:
        return
    field = written_path(conjunction.path(path))
    text = f"compares with {' or '.join(sorted(asked - {_DATE_TEXT}))}, but {field} is {' or '.join(sorted(found))}"
    advice = "; a date as text, like 2026-03-25, stands for both" if asked == {_DATE} and _DATE_TEXT in found else ""
    yield FilterWarning(place, Reason.TYPE_NEVER_OCCURS, f"{text} in the records sampled{advice}")


def _occurring(profile: FieldProfile) -> _Kinds:
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


def _kinds_ordered(value: Any) -> _Kinds:
    """What a field must be to come before a value or after it: an ISO date is compared with no other text."""
    return frozenset((_DATE, _DATE_TEXT)) if read_instant(value) else _kinds_of(value)


def _only(*kinds: str) -> Callable[[Any], _Kinds]:
    return lambda _: frozenset(kinds)


_COMPARED: dict[str, Callable[[Any], _Kinds]] = {
    **dict.fromkeys(("$eq", "$ne"), _kinds_of),
    **dict.fromkeys(("$gt", "$gte", "$lt", "$lte"), _kinds_ordered),
    **dict.fromkeys(("$in", "$nin", "$all"), _kinds_of_all),
    "$regex": _only(_TEXT),
    "$size": _only(_LIST),
    "$mod": _only(_NUMBER),
    **dict.fromkeys(("$bitsAllSet", "$bitsAllClear", "$bitsAnySet", "$bitsAnyClear"), _only(_NUMBER, _BINARY)),
}
"""What the operators that compare with a type want a field to be."""
