"""Relations with a test, decided in plain Python: the reference for what the service answers about related records.

It shares no code with the service. It knows `on`, `count`, `having`, `last`, `first`, `at` with `then`, and in `where`
only fields that equal a value or compare with a date of the contact.
"""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from bson import Decimal128

Record = Mapping[str, Any]
Records = Mapping[str, Sequence[Record]]
"""The records of each datatype."""

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": operator.eq,
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}
_DATE = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d(\.\d{1,3})?(Z|[+-]00:?00)?)?")
_ENVELOPE = ("pk", "createdate")
_INDEXES: dict[tuple[int, str], tuple[Sequence[Record], dict[Any, list[Record]]]] = {}


def matches(contact: Record, relation: Mapping[str, Any], records: Records, now: datetime) -> bool:
    """Whether a contact meets a relation with the records of other datatypes."""
    if "then" in relation:
        return any(
            meets(later, relation["then"].get("count", {"$gte": 1})) and (until is None or until < now)
            for _, later, until in sequence(contact, relation, records)
        )
    related = related_records(contact, relation, records)
    for name in ("last", "first"):
        if name in relation:
            taken = take(related, name, relation[name])
            found = [record for record in taken if has_values(record, relation[name], contact)]
            return meets(len(found), relation[name].get("count", {"$gte": 1}))
    having = relation.get("having")
    if having is None:
        return meets(len(related), relation.get("count", {"$gte": 1}))
    if not related and "count" not in relation:
        return bool(having.get("orNone", False))
    return meets(len(related), relation.get("count", {"$gte": 1})) and _has(related, having)


def sequence(
    contact: Record, relation: Mapping[str, Any], records: Records
) -> list[tuple[Record, int, datetime | None]]:
    """The first records, each with the number of later ones, and the end of the window if it must be over."""
    then = {"datatype": relation["datatype"], "on": relation["on"], "at": relation["at"], **relation["then"]}
    firsts = _dated(related_records(contact, relation, records), relation["at"])
    seconds = _dated(related_records(contact, then, records), then["at"])
    window = timedelta(**{f"{then['within']['unit']}s": then["within"]["amount"]}) if "within" in then else None
    bounds = then.get("count", {"$gte": 1})
    has_maximum = not isinstance(bounds, Mapping) or bool(bounds.keys() & {"$eq", "$lt", "$lte"})
    found = []
    for date, sk, record in firsts:
        later = [each for each in seconds if each[:2] > (date, sk) and each[1] != sk]
        if window is not None:
            later = [each for each in later if each[0] <= date + window]
        found.append((record, len(later), date + window if window is not None and has_maximum else None))
    return found


def related_records(contact: Record, relation: Mapping[str, Any], records: Records) -> list[Record]:
    """The records that match `on` and `where`, and are not archived."""
    by_value = _by_value(records[relation["datatype"]], relation["on"]["foreign"])
    keys = {_key(value) for value in values_at(contact, relation["on"]["local"])}
    found = {record["sk"]: record for key in keys for record in by_value.get(key, ())}
    return [
        record
        for record in found.values()
        if record.get("state") not in ("archived", "deleted") and has_values(record, relation, contact)
    ]


def _by_value(records: Sequence[Record], path: str) -> Mapping[Any, Sequence[Record]]:
    """The records by the keys of their values at a path. The records do not change, so it is computed once."""
    cached, found = _INDEXES.get((id(records), path), (None, {}))
    if cached is not records:
        found = {}
        for record in records:
            for value in values_at(record, path):
                found.setdefault(_key(value), []).append(record)
        _INDEXES[id(records), path] = records, found
    return found


def has_values(record: Record, query: Mapping[str, Any], contact: Record) -> bool:
    """Whether a record has the values, and the dates relative to the contact's, that `where` names."""
    return all(
        all(_compares(record, path, name, bound, contact) for name, bound in value.items())
        if isinstance(value, Mapping)
        else value in values_at(record, path)
        for path, value in query.get("where", {}).items()
    )


def _compares(record: Record, path: str, name: str, bound: Any, contact: Record) -> bool:
    """Whether a date of the record meets a bound like "$$record.at", or one that $dateAdd or $dateSubtract shifts."""
    shift = timedelta()
    if isinstance(bound, Mapping):
        [(direction, arguments)] = bound.items()
        shift = timedelta(**{f"{arguments['unit']}s": arguments["amount"]}) * (1 if direction == "$dateAdd" else -1)
        bound = arguments["startDate"]
    dates = _dated([contact], bound.removeprefix("$$record."))
    found = [date for value in values_at(record, path) if isinstance(date := comparable(value), datetime)]
    return bool(dates) and any(_COMPARE[name](date, dates[0][0] + shift) for date in found)


def take(related: Sequence[Record], name: str, operand: Mapping[str, Any]) -> list[Record]:
    """The last or first records by date, then by sk. Those without a single date are left out."""
    dated = _dated(related, operand["by"])
    ordered = sorted(dated, key=lambda each: each[:2], reverse=name == "last")
    return [record for *_, record in ordered[: operand.get("n", 1)]]


def _dated(related: Sequence[Record], path: str) -> list[tuple[datetime, str, Record]]:
    head, *steps = path.split(".")
    dated = []
    for record in related:
        value = (record if head in _ENVELOPE else record["data"]).get(head)
        for step in steps:
            value = value.get(step) if isinstance(value, dict) else None
        if isinstance(date := comparable(value), datetime):
            dated.append((date, record["sk"], record))
    return dated


def meets(value: Any, bounds: Any) -> bool:
    """Whether a number or a date meets all bounds."""
    bounds = bounds if isinstance(bounds, Mapping) else {"$eq": bounds}
    return all(_COMPARE[name](value, comparable(bound)) for name, bound in bounds.items())


def comparable(value: Any) -> Any:
    """An exact number, or a date; None for values that are neither."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float | Decimal128):
        number = value.to_decimal() if isinstance(value, Decimal128) else Decimal(value)
        return None if number.is_nan() else Fraction(number)
    if isinstance(value, str) and _DATE.fullmatch(value):
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            return None
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found
    return value if isinstance(value, datetime) else None


def values_at(record: Any, path: str) -> list[Any]:
    """The values at a path: elements of lists, but neither nulls nor lists inside lists."""
    head, *steps = path.split(".")
    values: list[Any] = _elements(record if head in _ENVELOPE else record.get("data", {}), head)
    for step in steps:
        values = [inner for value in values if isinstance(value, dict) for inner in _elements(value, step)]
    return [value for value in values if value is not None and not isinstance(value, list)]


def _elements(record: Any, name: str) -> list[Any]:
    value = record.get(name)
    return list(value) if isinstance(value, list) else [value]


def _has(related: Sequence[Record], having: Mapping[str, Any]) -> bool:
    for function, bounds_by_path in having.items():
        for path, bounds in bounds_by_path.items() if function != "orNone" else ():
            result = aggregate(function, [value for record in related for value in values_at(record, path)], bounds)
            if not (having.get("orNone", False) if result is None else meets(result, bounds)):
                return False
    return True


def aggregate(function: str, values: Sequence[Any], bounds: Any) -> Any:
    """The aggregate of the values of the kind of its bounds; None without any."""
    if function == "distinct":
        return len({_key(value) for value in values}) or None
    bound = next(iter(bounds.values())) if isinstance(bounds, Mapping) else bounds
    kind = datetime if isinstance(comparable(bound), datetime) else Fraction
    usable: list[Any] = [found for value in values if isinstance(found := comparable(value), kind)]
    if not usable:
        return None
    if function in ("min", "max"):
        return min(usable) if function == "min" else max(usable)
    return sum(usable) / (len(usable) if function == "avg" else 1)


def _key(value: Any) -> Any:
    """A key that is equal for values that the database takes for the same."""
    if isinstance(value, dict):
        return ("object", *((name, _key(inner)) for name, inner in value.items()))
    if isinstance(value, bool | str):
        return (type(value), value)
    number = comparable(value)
    return ("NaN",) if number is None else number
