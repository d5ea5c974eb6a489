"""Tests of related records, as stages: aggregates, the first or last ones, and sequences, by value or for one record.

Worked example. Contacts whose orders add up to more than 500, with the orders grouped by `contactId`:

    contactId    contact-1  contact-1  contact-2  contact-3  contact-3
    total        150        400        900        "n/a"      [10, 20]

    $group    {_id: $data.contactId, n: count, s0: sum, c0: count}    contact-1: 550 of 2, contact-2: 900 of 1,
                                                                      contact-3: 30 of 2
    $project  {a0: s0, or null if c0 is 0}
    $match    {a0: {$gt: 500}}                                        contact-1, contact-2

1. Values are found at a path as conditions find them. Numbers are those other than NaN. Dates are BSON dates, and ISO
   text in UTC.
2. A group without usable values has null, which meets no bound. `orNone` admits it.
3. Groups can be merged: a record whose foreign field is a list counts for each of its values.
4. The first and last records are those by date, then by sk. Records without a date are left out. For their values the
   database needs `$topN` (MongoDB 5.2).
5. The records of both steps of a sequence are entries of one list, sorted from the last to the first (`$sortArray`,
   MongoDB 5.2). One pass over it keeps the dates of the next records of the second step, as many as its bounds need:

       entries   10:00 second, 09:00 second, 08:00 first, 07:00 first     "at least 2 within 2 hours"
       next      [-, -]  [10, -]     [9, 10]      [9, 10]                 08:00 has both, so the result is null
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from audience_service.domain.core.clock import MILLISECOND
from audience_service.domain.filters.ast import (
    Aggregate,
    And,
    Expression,
    Having,
    Join,
    Node,
    OnList,
    RecordDate,
    Related,
    Slice,
    Then,
    conjuncts,
    joins,
    walk,
)
from audience_service.domain.filters.compiler import to_match, without_joins
from audience_service.domain.filters.dates import read_instant
from audience_service.domain.filters.field_usage import used_fields
from audience_service.domain.filters.fields import display_path
from audience_service.domain.filters.filter import Document
from audience_service.domain.filters.related import MAX_SLICE
from audience_service.domain.schema.projection import MISSING, get_path
from audience_service.mongo.core.scope import TenantScope
from audience_service.mongo.query.lookups import LISTS_FIELD, lists_lookup, values_at

Stages = list[Document]

_LEAST_NUMBER = float("-inf")
"""The least number but NaN, which sorts before it."""
_NEVER = float("inf")
"""The date of a next record that does not exist."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
_BY, _VALUE = "__by", "__value"
HAS_LIST: Document = {"_id.0": {"$exists": True}}
"""The match of groups of related records with several values."""
_IS_DATED: Document = {"$match": {_BY: {"$type": "date"}}}
_DATE_TEXT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(?:T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,3})?(?:Z|[+-]00:?00)?)?(?!\n)$"


@dataclass(frozen=True, slots=True)
class _Column:
    """An aggregate's fields in a group: how records give them, how groups are merged, and its value."""

    of_records: Document
    flat: Document
    of_groups: Document
    value: Any


def bounds_number(related: Related) -> bool:
    """Return whether a relation restricts the number of records of a group, which is at least 1."""
    return related.min_count > 1 or related.max_count is not None


def group_stages(having: Having, key: Any, *, with_number: bool = True) -> Stages:
    """Return the stages that group records by a key, with the fields of the aggregates, and `n` of the records."""
    columns = _columns(having)
    fields = {name: field for column in columns for name, field in column.of_records.items()}
    flat = {name: field for column in columns for name, field in column.flat.items()}
    number = {"n": {"$sum": 1}} if with_number else {}
    return [{"$group": {"_id": key, **number, **fields}}, *([{"$set": flat}] if flat else [])]


def merge_stage(having: Having, key: Any) -> Document:
    """Return the stage that merges groups by a key."""
    fields = {name: field for column in _columns(having) for name, field in column.of_groups.items()}
    return {"$group": {"_id": key, "n": {"$sum": "$n"}, **fields}}


def value_stage(having: Having) -> Document:
    """Return the stage that computes the aggregates `a0`, `a1`, ... of groups; null without usable values.

    A sum may be 0 instead of null if neither meets its bounds.
    """
    values = {f"a{number}": column.value for number, column in enumerate(_columns(having))}
    return {"$project": {"n": 1, **values}}


def decision_stage(related: Related, having: Having) -> Document:
    """Return the match of the groups that meet the bounds; or that do not, if records without a group match."""
    counts = {"$gte": related.min_count, **({} if related.max_count is None else {"$lte": related.max_count})}
    conditions: list[Document] = [{"n": counts}] if bounds_number(related) else []
    for number, aggregate in enumerate(having.aggregates):
        bounds = {bound.operator.name: _bound(bound.operand) for bound in aggregate.bounds}
        has_bounds: Document = {f"a{number}": bounds}
        conditions.append({"$or": [{f"a{number}": None}, has_bounds]} if having.or_none else has_bounds)
    return {"$match": {"$and": conditions} if related.min_count else {"$nor": [{"$and": conditions}]}}


def slice_stages(test: Slice) -> Stages:
    """Return the stages that reduce the related records of one record to its first or last ones."""
    # MongoDB drops the skip. Some engines compute fields before they join, unless a skip comes first: they would read
    # every related record of the org for each record.
    return [{"$skip": 0}, *_dated(test.by), {"$sort": _order(test)}, {"$limit": test.size}]


def slice_by_value_stages(test: Slice, path: str) -> Stages:
    """Return the stages from related records to values, with the number of each one's first or last that match.

    The values are those of the foreign field. A value without such a record is missing from the result.
    """
    top = {"$topN": {"n": test.size, "sortBy": _order(test), "output": "$$ROOT"}}
    read, computed = _read_fields(test.query), {_BY: instant(f"${test.by}"), _VALUE: _values(path)}
    return [
        {"$set": computed} if read is None else {"$project": {**dict.fromkeys(("sk", *read), 1), **computed}},
        {"$unwind": f"${_VALUE}"},
        # Some engines would compute the fields twice if this match came first.
        _IS_DATED,
        {"$group": {"_id": f"${_VALUE}", "top": top}},
        {"$unwind": "$top"},
        {"$replaceRoot": {"newRoot": "$top"}},
        {"$match": to_match(test.query)},
        {"$group": {"_id": f"${_VALUE}", "n": {"$sum": 1}}},
    ]


def entry_stages(step: Related, number: int) -> Stages:
    """Return the stages from related records of a step to entries: the date `t` in milliseconds, and sk `s`.

    Those of the second step have 1 as `k`. Records without a date have none.
    """
    return [{"$project": {"_id": 0, **_entry(step, number)}}, {"$match": {"t": {"$ne": None}}}]


def _entry(step: Related, number: int) -> Document:
    step_number = {"k": {"$literal": number}} if number else {}
    return {"t": {"$toLong": instant(f"${step.at}")}, "s": "$sk", **step_number}


def has_sequence(first: Related, entries: Any) -> Document:
    """Return the expression whether a list of entries contains the sequence of a relation.

    Entries whose date is null count for nothing.
    """
    then = _then(first)
    bounds = then.second
    size = max(bounds.min_count, 0 if bounds.max_count is None else bounds.max_count + 1, 1)
    # Only a record with two dates can be its own later record.
    is_own_excluded = first.datatype == bounds.datatype and first.at != bounds.at
    size += is_own_excluded
    found: Any = "$$value"
    item: Any = "$$this.t"
    never: Any = _NEVER
    if is_own_excluded:
        found = {"$filter": {"input": "$$value", "as": "next", "cond": {"$ne": ["$$next.s", "$$this.s"]}}}
        item, never = {"t": "$$this.t", "s": "$$this.s"}, {"t": _NEVER, "s": ""}

    def is_within(index: int) -> Document:
        """Whether the next record of the second step with this index is in the window."""
        date: Document = {"$arrayElemAt": [found, index]}
        if is_own_excluded:
            date = {"$let": {"vars": {"next": date}, "in": "$$next.t"}}
        if then.within is None:
            return {"$lt": [date, _NEVER]}
        return {"$lte": [{"$subtract": [date, "$$this.t"]}, then.within.milliseconds]}

    # Null sorts before every date, so that no entry with a date comes after one without.
    conditions: list[Document] = [{"$gt": ["$$this.t", None]}]
    conditions += [is_within(bounds.min_count - 1)] if bounds.min_count else []
    if bounds.max_count is not None:
        conditions.append({"$not": [is_within(bounds.max_count)]})
    if then.now and then.within:
        end = (then.now - _EPOCH) // MILLISECOND - then.within.milliseconds
        conditions.append({"$lt": ["$$this.t", end]})
    # A null stays: the expressions of both branches return null then.
    pushed = {"$slice": [{"$concatArrays": [[item], "$$value"]}, size]}
    after = {"$cond": [{"$and": conditions}, None, "$$value"]}
    ordered = {"$sortArray": {"input": entries, "sortBy": {"t": -1, "s": -1, "k": 1}}}
    result = {
        "$reduce": {
            "input": ordered,
            "initialValue": [never] * size,
            "in": {"$cond": [{"$eq": ["$$this.k", 1]}, pushed, after]},
        }
    }
    return {"$eq": [result, None]}


def sequence_by_value_stages(scope: TenantScope, org: str, first: Related, *, merged: bool) -> Stages:
    """Return the stages from related records to the values with the sequence, each with an `n` of 1.

    The stages run on the collection of the first step. Each step is grouped on its own, as a union of groups costs less
    than one of records. Without `merged`, each record must have a single value: a list of them is in the result, which
    is not complete then.
    """

    def groups(step: Related, number: int) -> Stages:
        key = group_key(step.foreign)
        # The group of the records without a value must not grow without bound.
        entry = {"$cond": [{"$eq": [{"$ifNull": [key, []]}, []]}, "$$REMOVE", _entry(step, number)]}
        return [*query_stages(scope, org, step.query), {"$group": {"_id": key, names[number]: {"$push": entry}}}]

    def joined(name: str) -> Document:
        """Return the entries of a step: of several groups that were merged, or of the only one, if there is one."""
        several = {"$reduce": {"input": f"${name}", "initialValue": [], "in": {"$concatArrays": ["$$value", "$$this"]}}}
        return several if merged else {"$ifNull": [f"${name}", []]}

    names = ("first", "second")
    steps = [groups(step, number) for number, step in enumerate(first.steps)]
    merge = "$push" if merged else "$max"
    required = names if _then(first).second.min_count else names[:1]
    stages: tuple[Document, ...] = (
        {f"{name}.0": {"$exists": True} for name in required},
        {"$expr": has_sequence(first, {"$concatArrays": [joined(name) for name in names]})},
    )
    return [
        *steps[0],
        {"$unionWith": {"coll": _then(first).second.datatype, "pipeline": steps[1]}},
        *(split_stages() if merged else []),
        {"$group": {"_id": "$value" if merged else "$_id", **{name: {merge: f"${name}"} for name in names}}},
        *({"$match": stage if merged else {"$or": [stage, HAS_LIST]}} for stage in stages),
        {"$project": {"n": {"$literal": 1}}},
    ]


def group_key(path: str) -> Any:
    """Return the key of groups of records by the values at a path: the stored value or list, or the list of them."""
    return f"${path}" if is_flat(path) else values_at(f"${path}")


def split_stages() -> Stages:
    """Return the stages that add a group's value as `value`, in a document for each different one of a list."""
    value = {"$cond": [{"$isArray": "$_id"}, {"$setUnion": [values_at("$_id"), []]}, "$_id"]}
    return [{"$set": {"value": value}}, {"$unwind": "$value"}]


def last_entries_stage() -> Document:
    """Return the stage from entries to one document: their `count`, and the last of them as `entries`."""
    last = {"$topN": {"n": MAX_SLICE, "sortBy": {"t": -1, "s": -1}, "output": {"t": "$t", "s": "$s"}}}
    return {"$group": {"_id": None, "count": {"$sum": 1}, "entries": last}}


def measured_sequence_stages(first: Related, later: Document) -> Stages:
    """Return the stages from the result of `last_entries_stage` to its entries, each with its number of later ones.

    `later` is the stage that adds the entries of the second step. The sequence is counted in one pass over all entries
    in order, which numbers those of the second step (`n`). The cost of a first record does not depend on their number:

        entries   07:00 first    08:00 second    09:00 first    10:00 second    end of 07:00    end of 09:00
        n         0              1               1              2               2               2

    The first record at 07:00 has 2 - 0 later ones, and that at 09:00 has 2 - 1.
    """
    then = _then(first)
    within = then.within
    # No entry has the time of an end.
    end: Any = {"$add": ["$entries.t", within.milliseconds + 0.5]} if within else {"$literal": _NEVER}
    both = [{"t": "$entries.t", "k": {"$literal": 0}}, {"t": end, "k": {"$literal": 2}}]
    is_later = {"$eq": ["$k", 1]}
    taken: Document = {"$subtract": ["$end", "$start"]}
    own: Stages = []
    if first.datatype == then.second.datatype and first.at != then.second.at:
        # Only a record with two dates can be its own later record.
        own_date = {"$max": {"$cond": [is_later, "$t", None]}}
        own = [{"$setWindowFields": {"partitionBy": "$s", "output": {"own": own_date}}}]
        after: list[Document] = [{"$gt": ["$own", "$t"]}]
        if within:
            after.append({"$lte": [{"$subtract": ["$own", "$t"]}, within.milliseconds]})
        taken = {"$subtract": [taken, {"$cond": [{"$and": after}, 1, 0]}]}
    number = {"$sum": {"$cond": [is_later, 1, 0]}, "window": {"documents": ["unbounded", "current"]}}
    counted = {name: {"$first": f"${name}"} for name in ("count", *(["own"] if own else []))}
    until = {"until": {"$toDate": {"$add": ["$t", within.milliseconds]}}} if within else {}
    return [
        {"$unwind": "$entries"},
        {"$project": {"_id": 0, "count": 1, "s": "$entries.s", "e": both}},
        {"$unwind": "$e"},
        {"$project": {"count": 1, "s": 1, "t": "$e.t", "k": "$e.k"}},
        later,
        *own,
        # A record of both steps comes as the second first: it is not later than itself.
        {"$setWindowFields": {"sortBy": {"t": 1, "s": 1, "k": -1}, "output": {"n": number}}},
        {"$match": {"k": {"$ne": 1}}},
        {"$group": {"_id": "$s", "t": {"$min": "$t"}, "start": {"$min": "$n"}, "end": {"$max": "$n"}, **counted}},
        {"$sort": {"t": -1, "_id": -1}},
        {"$project": {"_id": 0, "count": 1, "at": {"$toDate": "$t"}, "then": taken, **until}},
    ]


def _then(related: Related) -> Then:
    if not isinstance(related.test, Then):
        raise TypeError("the relation is no sequence")
    return related.test


def measured(related: Related, found: Sequence[Document]) -> Document:
    """Return what a relation's test sees, given the documents of its lookup.

    For aggregates, the number of records and the aggregates by function and path. For the first or last records, the
    values of the fields that it reads. For a sequence, the number of its first records, and the last of them with the
    number of later ones.
    """
    if isinstance(related.test, Then):
        seen = [{display_path(related.at): each.pop("at"), **each} for each in map(dict, found)]
        counts = [int(each.pop("count")) for each in seen]
        return {"count": max(counts, default=0), "records": seen}
    if isinstance(related.test, Slice):
        paths = dict.fromkeys((related.test.by, *used_fields(related.test.query)))
        values_of = [{display_path(path): get_path(record, path.split(".")) for path in paths} for record in found]
        return {"records": [{path: v for path, v in each.items() if v is not MISSING} for each in values_of]}
    group = next(iter(found), {})
    values: Document = {"count": int(group.get("n", 0))}
    for number, aggregate in enumerate(related.test.aggregates if related.test else ()):
        values.setdefault(aggregate.function, {})[display_path(aggregate.path)] = group.get(f"a{number}")
    return values


def query_stages(scope: TenantScope, org: str, query: Node) -> Stages:
    """Return the stages that leave only the org's related records that match a query.

    A query that compares with dates of the record needs the `record_variables` of a lookup.
    """
    plain: Stages = [{"$match": scope.match(org, to_match(without_joins(query)))}]
    joined = [part for part in conjuncts(query) if joins(part)]
    return [*plain, *matching_stages(scope, org, And(tuple(joined)))] if joined else plain


def matching_stages(scope: TenantScope, org: str, query: Node) -> Stages:
    """Return the stages that leave only the related records that match a query, among those of the org.

    Comparisons with dates of the record are fields first: some engines fail on a variable inside $nor.
    """
    fields = {_field(join): _comparison(join) for join in joins(query) if isinstance(join, RecordDate)}
    lists = sorted({join.member_list.list_id for join in joins(query) if isinstance(join, OnList)})
    added = [*fields, *([LISTS_FIELD] if lists else [])]
    return [
        *([{"$set": fields}] if fields else []),
        *([lists_lookup(scope, org, lists)] if lists else []),
        {"$match": to_match(query, _join_condition)},
        *([{"$unset": added}] if added else []),
    ]


def record_variables(related: Related) -> Document:
    """Return the dates of the record with which related records are compared, by variable of a lookup."""
    return {
        _variable(each): {"$toLong": _within_calendar(instant(f"${each.record_path}"))} for each in related.record_dates
    }


def _join_condition(join: Join) -> Document:
    match join:
        case OnList(member_list):
            return {f"{LISTS_FIELD}.audience": {"$eq": member_list.list_id}}
        case RecordDate():
            return {_field(join): {"$eq": True}}
    raise TypeError(f"related records are not joined by {join}")


def _comparison(join: RecordDate) -> Document:
    bound = {"$add": [f"$${_variable(join)}", join.shift.milliseconds if join.shift else 0]}
    date = {"$toLong": instant("$$this")}
    is_met = {"$and": [{"$gt": [date, None]}, {join.operator: [date, bound]}]}
    compared = {"$map": {"input": values_at(f"${join.path}"), "in": is_met}}
    return {"$and": [{"$gt": [bound, None]}, {"$anyElementTrue": [compared]}]}


def _field(date: RecordDate) -> str:
    shift = date.shift.milliseconds if date.shift else 0
    return f"__{f'{date.path} {date.operator} {date.record_path} {shift}'.encode().hex()}"


def _variable(date: RecordDate) -> str:
    return f"r{date.record_path.encode().hex()}"


def _within_calendar(date: Document) -> Document:
    """Return the date, or null outside the years 1 to 9999: shifts cannot overflow."""
    is_within = {"$and": [{"$gte": [date, _FIRST]}, {"$lt": [date, _LAST]}]}
    return {"$cond": [is_within, date, None]}


def instant(value: Any) -> Document:
    """Return the date that an expression's value is or spells; null for other values."""
    is_text = {"$eq": [{"$type": value}, "string"]}
    text = {"$cond": [is_text, value, ""]}
    spelled = {"$convert": {"input": value, "to": "date", "onError": None, "onNull": None}}
    of_text = {"$cond": [{"$regexMatch": {"input": text, "regex": _DATE_TEXT}}, spelled, None]}
    return {"$cond": [{"$eq": [{"$type": value}, "date"]}, value, of_text]}


def is_flat(path: str) -> bool:
    """Return whether a path has a single step in the payload or envelope."""
    return "." not in path.removeprefix("data.")


def _values(path: str) -> Document:
    """Return a record's value at a path, or the list of its different values."""
    field = f"${path}"
    values = {"$setUnion": [values_at(field), []]}
    return {"$cond": [{"$isArray": field}, values, field]} if is_flat(path) else values


def _dated(path: str) -> Stages:
    """Return the stages that leave only records with a date at a path, and add it as a field."""
    return [{"$set": {_BY: instant(f"${path}")}}, _IS_DATED]


def _order(test: Slice) -> Document:
    direction = -1 if test.is_last else 1
    return {_BY: direction, "sk": direction}


def _read_fields(query: Node) -> Sequence[str] | None:
    """Return the top fields, of payload or envelope, that a node reads; None if it may need the complete record."""
    if any(isinstance(node, Expression) for node in walk(query)):
        return None
    steps = [path.split(".") for path in used_fields(query)]
    found = {".".join(step[: 2 if step[0] == "data" else 1]) for step in steps} - {"sk"}
    return None if any(".$" in path for path in found) else sorted(found)


def _bound(operand: Any) -> Any:
    found = read_instant(operand)
    return found.timestamp if found else operand


def _columns(having: Having) -> Sequence[_Column]:
    return [
        _total(aggregate, number)
        if aggregate.function == "sum" and not having.or_none and _excludes_zero(aggregate)
        else _COLUMNS[aggregate.function](aggregate, number)
        for number, aggregate in enumerate(having.aggregates)
    ]


def _excludes_zero(aggregate: Aggregate) -> bool:
    """Return whether a sum of 0 is known not to meet the bounds, as no sum of a group without usable values does."""
    return any(
        isinstance(bound.operand, int | float)
        and (
            (bound.operator.name == "$gt" and bound.operand >= 0)
            or (bound.operator.name == "$gte" and bound.operand > 0)
        )
        for bound in aggregate.bounds
    )


def _total(aggregate: Aggregate, number: int) -> _Column:
    """The column of a sum that is 0 without usable values."""
    total = f"s{number}"
    return _Column({total: {"$sum": _reduced("$sum", aggregate)}}, {}, {total: {"$sum": f"${total}"}}, f"${total}")


def _sum(aggregate: Aggregate, number: int) -> _Column:
    total, count = f"s{number}", f"c{number}"
    fields = {total: {"$sum": _reduced("$sum", aggregate)}, count: {"$sum": _count(aggregate)}}
    merged = {total: {"$sum": f"${total}"}, count: {"$sum": f"${count}"}}
    return _Column(fields, {}, merged, {"$cond": [f"${count}", f"${total}", None]})


def _average(aggregate: Aggregate, number: int) -> _Column:
    column = _sum(aggregate, number)
    mean = {"$divide": [f"$s{number}", f"$c{number}"]}
    return _Column(column.of_records, {}, column.of_groups, {"$cond": [f"$c{number}", mean, None]})


def _extreme(aggregate: Aggregate, number: int) -> _Column:
    operator, name = f"${aggregate.function}", f"m{number}"
    fields = {name: {operator: _reduced(operator, aggregate)}}
    return _Column(fields, {}, {name: {operator: f"${name}"}}, f"${name}")


def _distinct(aggregate: Aggregate, number: int) -> _Column:
    path, name = f"${aggregate.path}", f"d{number}"
    fields = {name: {"$addToSet": path if is_flat(aggregate.path) else values_at(path)}}
    is_value = {"$and": [{"$gt": ["$$this", None]}, {"$not": [{"$isArray": "$$this"}]}]}
    singles = {"$filter": {"input": f"${name}", "cond": is_value}}
    lists = {"$filter": {"input": f"${name}", "cond": {"$isArray": "$$this"}}}
    flat = {"$setUnion": [singles, _union(lists, values_at("$$this"))]}
    count = {"$size": {"$cond": [{"$isArray": [{"$first": f"${name}"}]}, _union(f"${name}", "$$this"), f"${name}"]}}
    value = {"$let": {"vars": {"n": count}, "in": {"$cond": ["$$n", "$$n", None]}}}
    return _Column(fields, {name: flat}, {name: {"$push": f"${name}"}}, value)


_COLUMNS: dict[str, Callable[[Aggregate, int], _Column]] = {
    "sum": _sum,
    "avg": _average,
    "min": _extreme,
    "max": _extreme,
    "distinct": _distinct,
}


def _union(sets: Any, values: Any) -> Document:
    return {"$reduce": {"input": sets, "initialValue": [], "in": {"$setUnion": ["$$value", values]}}}


def _is_number(value: str) -> Document:
    return {"$and": [{"$isNumber": value}, {"$gte": [value, _LEAST_NUMBER]}]}


def _usable_values(aggregate: Aggregate) -> Document:
    """Return the record's values at the path that the aggregate can use, as a list."""
    values = values_at(f"${aggregate.path}")
    if not aggregate.takes_dates:
        return {"$filter": {"input": values, "cond": _is_number("$$this")}}
    instants = {"$map": {"input": values, "in": instant("$$this")}}
    return {"$filter": {"input": instants, "cond": {"$gt": ["$$this", None]}}}


def _reduced(operator: str, aggregate: Aggregate) -> Document:
    """Return the record's usable values, reduced to one by an operator; null without any."""
    path, several = f"${aggregate.path}", {operator: _usable_values(aggregate)}
    if not is_flat(aggregate.path):
        return several
    single = instant(path) if aggregate.takes_dates else {"$cond": [_is_number(path), path, None]}
    return {"$cond": [{"$isArray": path}, several, single]}


def _count(aggregate: Aggregate) -> Document:
    path, several = f"${aggregate.path}", {"$size": _usable_values(aggregate)}
    if not is_flat(aggregate.path):
        return several
    return {"$cond": [{"$isArray": path}, several, {"$cond": [_is_number(path), 1, 0]}]}
