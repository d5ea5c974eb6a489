"""Related records of a filter: prefetched before the filter runs, or looked up for each of its records.

Worked example. Contacts with at least two orders over 100:

    {$related: {datatype: "order", on: {local: "pk", foreign: "contactId"},
                where: {total: {$gt: 100}}, count: {$gte: 2}}}

The orders of the org:   contactId    contact-1  contact-1  contact-2  contact-3  contact-3
                         total        150        200        900        120        10

Prefetching reads the orders once, grouped by `contactId`, and returns the values that occur often enough:

    $match  data.total > 100                    contact-1, contact-1, contact-2, contact-3
    $group  {_id: $data.contactId, n: count}    contact-1: 2, contact-2: 1, contact-3: 1
    $match  {n: {$gte: 2}}                      contact-1: 2

    JoinValues(["contact-1"])    inlined as {pk: {$in: ["contact-1"]}}

A lookup joins each contact with up to two of its orders, and tests whether the second exists.

Prefetching costs time per related record, lookups per record of the filter (its candidates). Therefore:

1. Up to 1,000 candidates are looked up. From 50,000 on, or without an index for lookups, prefetching may take until
   the deadline.
2. In between, prefetching stops once it has taken as long as the lookups would.
3. Values that exceed the space of a command are looked up, except for a count: up to four commands count in parts, each
   with a part of the values, and each record in one of them. Of even more values, one group has all
   (`count_by_value_stages`). If the related records of a single value need more memory than the database allows a
   group, they are looked up as well.
4. Counts by value do not add up for a candidate with several values: an order with two of them counts once. If a count
   above 1 or an aggregate matters and some record has several values at `local`, the related records are looked up.
5. Both ways match the same records. If the database refuses the query, the lookups meet the same error, but only for
   related records of candidates.
6. Groups by a value are final if every related record has a single value, as most do. If the result contains a list, it
   is read again with groups that are merged by each value of the lists, within the same limit of time.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from typing import Any

from bson import ObjectId
from bson.datetime_ms import DatetimeMS
from pymongo.database import Database
from pymongo.errors import OperationFailure

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import InvalidFilter, OutOfTime, StoreUnavailable
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.ast import Expression, Having, Node, Related, Slice, Then, joins, reads_lists, walk
from audience_service.domain.filters.compiler import MATCH_NONE
from audience_service.domain.filters.filter import Document
from audience_service.mongo.core.collections import LISTS
from audience_service.mongo.core.errors import with_deadline
from audience_service.mongo.core.scope import TenantScope
from audience_service.mongo.core.server_errors import MEMORY_CODES
from audience_service.mongo.query.lookups import lookup_stages, source, values_at
from audience_service.mongo.query.related_groups import (
    HAS_LIST,
    bounds_number,
    decision_stage,
    entry_stages,
    group_key,
    group_stages,
    has_sequence,
    is_flat,
    last_entries_stage,
    matching_stages,
    measured_sequence_stages,
    merge_stage,
    query_stages,
    record_variables,
    sequence_by_value_stages,
    slice_by_value_stages,
    slice_stages,
    split_stages,
    value_stage,
)
from audience_service.mongo.query.suppression import ChannelAddresses

Stages = list[Document]

MIN_PREFETCH_CANDIDATES, _MAX_COUNTED_CANDIDATES = 1_000, 50_000
"""Up to the first number, candidates are looked up. From the second on, prefetching has no limit but the deadline."""
LOOKUP_SECONDS = 100e-6
"""The time of a lookup with an index. Without one, a lookup takes as long as prefetching."""
NO_TIMEOUT = 1e9
_INDEX_SHARE, _MAX_INDEX_VALUES = 50, 5_000
"""An index serves at most one value per 50 candidates, and at most 5,000 values. Otherwise, a scan is faster."""
_READ_BATCH_SIZE = 50_000
MAX_PARTS = 4
"""The most commands to count in. Each of them may read all candidates: one group of all values takes less time then."""
_DOCUMENT_TOO_LARGE = 10334
"""The code of a group that exceeds a document."""
_TEXT_OVERHEAD_BYTES, _VALUE_BYTES = 14, 25
"""Upper bounds for the bytes of an item of a BSON array: a string without its text, and any other value."""

_MEASURED = "__measured"
"""The field with the related records of a record to explain."""

_SINGLE_VALUE_PATHS = frozenset(("pk", "sk"))
"""Paths at which every record has exactly one string."""
_COMPARABLE = (str, bool, int, float, datetime, DatetimeMS, ObjectId)
"""Types that $in compares by equality, unlike patterns and objects."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """The records to evaluate joins on: those of a datatype, or rows of a list, that meet the match."""

    datatype: str
    collection: str
    match: Document


@dataclass(frozen=True, slots=True)
class JoinValues:
    """The values of the records that match; or with `is_excluded`, of those that do not."""

    values: Sequence[Any]
    is_excluded: bool = False
    index_limit: int = 0
    """Up to this number of values, an index may serve the condition."""
    bounds: Document | None = None
    """The condition on the value for a part of excluded values: the others of its range match, and no more."""

    def condition(self, local: str) -> Document:
        """Return the match of records with one of the values at `local`, or without."""
        has_one = {local: {"$in": self.values}}
        if self.is_excluded:
            return {"$nor": [has_one], **({local: self.bounds} if self.bounds else {})}
        # A double negation hides the condition from indexes: some engines seek every value, however many there are.
        return has_one if len(self.values) <= self.index_limit else {"$nor": [{"$nor": [has_one]}]}

    @property
    def size(self) -> int:
        """An upper bound of the bytes that they take in a filter."""
        return sum(map(_item_bytes, self.values))

    def parts(self, max_bytes: int) -> "list[JoinValues]":
        """Return parts of at most `max_bytes`, or one value each. A text matches one of them if it matches the whole.

        They contain only texts.
        """
        parts: list[list[str]] = [[]]
        size = 0
        for value in sorted(value for value in self.values if isinstance(value, str)):
            size += _item_bytes(value)
            if size > max_bytes and parts[-1]:
                parts.append([])
                size = _item_bytes(value)
            parts[-1].append(value)
        if not self.is_excluded or len(parts) == 1:
            return [replace(self, values=part) for part in parts]
        starts = [None, *(part[0] for part in parts[1:])]
        ranges = zip(starts, [*starts[1:], None], strict=True)
        bounds = [
            {operator: value for operator, value in (("$gte", start), ("$lt", end)) if value is not None}
            for start, end in ranges
        ]
        return [replace(self, values=part, bounds=bound) for part, bound in zip(parts, bounds, strict=True)]


@dataclass(frozen=True, slots=True)
class PrefetchedJoins:
    """The values of related records, by the identity of the join. The others are looked up."""

    inlined: Mapping[int, JoinValues] = field(default_factory=dict)
    """Values that fit a command together."""
    oversized: Mapping[int, Sequence[JoinValues]] = field(default_factory=dict)
    """The parts of values that exceed a command; none if they are too many to read. Only counts use them."""


@dataclass(frozen=True, slots=True)
class PrefetchedFilter(CompiledFilter):
    """A filter with prefetched joins, which several commands reuse."""

    prefetched: PrefetchedJoins | None = None
    addresses: Mapping[str, ChannelAddresses] | None = None
    """The suppressed addresses of each channel, if they were read."""


def constant_condition(related: Related) -> Document | None:
    """Return the condition of a join that no related record can change, or None."""
    if related.max_count is not None and related.max_count < related.min_count:
        return MATCH_NONE
    return {} if not related.min_count and related.max_count is None and related.test is None else None


def prefetch_joins(
    database: Database[dict[str, Any]],
    scope: TenantScope,
    org: str,
    nodes: Sequence[Node],
    candidates: Candidates,
    deadline: Deadline,
    max_bytes: int,
    *,
    for_count: bool = False,
) -> PrefetchedJoins:
    """Return the values of the nodes' related records.

    The inlined values take at most `max_bytes` in a filter with these nodes. `for_count` also reads more values, if the
    records can be counted in parts.

    Raises what `with_deadline` raises.
    """
    found = [
        join for node in nodes for join in joins(node) if isinstance(join, Related) and constant_condition(join) is None
    ]
    use_counts = Counter(map(id, found))
    prefetcher = JoinPrefetcher(database, scope, org, candidates, deadline)
    inlined: dict[int, JoinValues] = {}
    oversized: dict[int, Sequence[JoinValues]] = {}
    for join in {id(join): join for join in found}.values():
        space = max_bytes // use_counts[id(join)]
        in_parts = for_count and len(use_counts) == 1 and is_countable_by_value(join)
        values = prefetcher.prefetch(join, space * (MAX_PARTS if in_parts else 1))
        if values and values.size > space:
            oversized[id(join)] = values.parts(space)
        elif values:
            max_bytes -= use_counts[id(join)] * values.size
            inlined[id(join)] = values
        elif id(join) in prefetcher.too_large:
            oversized[id(join)] = ()
    return PrefetchedJoins(inlined, oversized)


class JoinPrefetcher:
    """Prefetches joins for the candidates of one filter."""

    def __init__(
        self,
        database: Database[dict[str, Any]],
        scope: TenantScope,
        org: str,
        candidates: Candidates,
        deadline: Deadline,
    ) -> None:
        self._database = database
        self._scope = scope
        self._org = org
        self._candidates = candidates
        self._deadline = deadline
        self._cached_candidate_count: int | None = None
        self.too_large: set[int] = set()
        """The joins, by identity, that have more values than fit."""

    def prefetch(self, related: Related, max_bytes: int) -> JoinValues | None:
        """Return the values, or None if the related records must be looked up (see the module's rules).

        Raises what `with_deadline` raises, except for errors of the join's query.
        """
        min_count, max_count = related.min_count, related.max_count
        if not _is_decidable_by_values(related):
            return None
        timeout = self.prefetch_timeout(related)
        decides_by_several = related.test or max(min_count, 0 if max_count is None else max_count + 1) > 1
        if not timeout or (decides_by_several and self._has_multiple_values(related.local)):
            return None
        try:
            found = self._read_values(related, self._deadline.min_with(timeout), max_bytes)
        except OutOfTime:
            self._deadline.check()
            return None
        except InvalidFilter:
            return None
        except (OperationFailure, StoreUnavailable) as error:
            # The server's code may not say that an expression failed.
            if _is_too_large(error) or any(
                isinstance(node, Expression) for query in related.queries for node in walk(query)
            ):
                return None
            raise
        if found is None:
            return None
        index_limit = (
            self._candidate_count() // _INDEX_SHARE
            if self._candidate_count() < _MAX_COUNTED_CANDIDATES
            else _MAX_INDEX_VALUES
        )
        join_values = JoinValues(found, not min_count, index_limit)
        if join_values.size > max_bytes:
            self.too_large.add(id(related))
            return None
        return join_values

    def prefetch_timeout(self, related: Related) -> float:
        """Return the seconds that prefetching may take: as long as the lookups, or 0 if there are few.

        Each record has a lookup for each step of a sequence.
        """
        number = self._candidate_count()
        if number >= _MAX_COUNTED_CANDIDATES or not self._is_indexed(related):
            return NO_TIMEOUT
        seconds = number * len(related.steps) * LOOKUP_SECONDS
        return seconds if number > MIN_PREFETCH_CANDIDATES else 0.0

    def _is_indexed(self, related: Related) -> bool:
        """Return whether an index serves lookups."""
        for step in related.steps:
            with with_deadline(self._database, self._deadline):
                indexes = self._database[step.datatype].index_information().values()
            if not any(index["key"][0][0] == step.foreign for index in indexes):
                return False
        return True

    def _candidate_count(self) -> int:
        """Return the number of candidates, counted up to 50,000."""
        if self._cached_candidate_count is None:
            with with_deadline(self._database, self._deadline):
                is_list = self._candidates.collection == LISTS
                collection = source(self._database, self._candidates.collection, reads_lists=is_list)
                self._cached_candidate_count = collection.count_documents(
                    self._candidates.match, limit=_MAX_COUNTED_CANDIDATES
                )
        return self._cached_candidate_count

    def _has_multiple_values(self, path: str) -> bool:
        """Return whether some record of the org has several values at the path."""
        if path in _SINGLE_VALUE_PATHS:
            return False
        steps = path.split(".")
        second = [{f"{'.'.join(steps[:end])}.1": {"$exists": True}} for end in range(1, len(steps) + 1)]
        with with_deadline(self._database, self._deadline):
            collection = self._database[self._candidates.datatype]
            return collection.find_one(self._scope.match(self._org, {"$or": second}), {"_id": 1}) is not None

    def _read_values(self, related: Related, deadline: Deadline, max_bytes: int) -> list[Any] | None:
        """Return the values that decide: within the bounds, or beyond the upper one if records without a group match.

        If they take more than `max_bytes`, it returns those up to there. Returns None if $in does not compare some of
        them by equality.
        """
        if all(is_flat(step.foreign) for step in related.steps) and not isinstance(related.test, Slice):
            found = self._read_groups(
                related, single_value_stages(self._scope, self._org, related), deadline, max_bytes
            )
            if not any(isinstance(value, list) for value in found):
                return found if _are_comparable(found) else None
        found = self._read_groups(related, merged_value_stages(self._scope, self._org, related), deadline, max_bytes)
        return found if _are_comparable(found) else None

    def _read_groups(self, related: Related, stages: Stages, deadline: Deadline, max_bytes: int) -> list[Any]:
        """Return the values of groups that decide: up to `max_bytes`, or to a value that $in does not compare."""
        found: list[Any] = []
        records = source(self._database, related.datatype, reads_lists=any(map(reads_lists, related.queries)))
        with (
            with_deadline(self._database, deadline),
            closing(records.aggregate(stages, batchSize=_READ_BATCH_SIZE, allowDiskUse=True)) as rows,
        ):
            while batch := list(islice(rows, _READ_BATCH_SIZE)):
                values = [row["_id"] for row in batch if row["_id"] is not None and _decides(related, row)]
                found += values
                max_bytes -= sum(map(_item_bytes, values))
                if max_bytes < 0 or not _are_comparable(values):
                    break
        return found


def _are_comparable(values: Sequence[Any]) -> bool:
    return all(isinstance(value, _COMPARABLE) for value in values)


def _decides(related: Related, group: Document) -> bool:
    """Return whether a group's value matches; or if values without related records match, whether it does not.

    The database decides about aggregates. A list of values decides that groups are merged.
    """
    if isinstance(related.test, Having) or isinstance(group["_id"], list):
        return True
    number = int(group["n"])
    is_beyond = related.max_count is not None and number > related.max_count
    return number >= related.min_count and not is_beyond if related.min_count else is_beyond


def _is_too_large(error: Exception) -> bool:
    """Return whether the records of a single value need more memory than the database allows a group."""
    cause = error if isinstance(error, OperationFailure) else error.__cause__
    return isinstance(cause, OperationFailure) and cause.code in MEMORY_CODES | {_DOCUMENT_TOO_LARGE}


def _is_decidable_by_values(related: Related) -> bool:
    """Return whether conditions and lookups read the same values at the paths.

    They differ for a number in a path, which conditions also treat as an index of a list. The steps of a sequence must
    be about the same values of the record, and no condition may read its dates.
    """
    if related.record_dates:
        return False
    paths = [related.local, *(step.foreign for step in related.steps)]
    has_numbers = any(name.isdigit() for path in paths for name in path.split("."))
    return not has_numbers and all(step.local == related.local for step in related.steps)


def single_value_stages(scope: TenantScope, org: str, related: Related) -> Stages:
    """Return stages as `merged_value_stages`, for related records with a single value each, which need not be merged.

    If a record has a list of values, the result contains that list, and is not complete.
    """
    if isinstance(related.test, Then):
        return sequence_by_value_stages(scope, org, related, merged=False)
    having = related.test if isinstance(related.test, Having) else Having(())
    with_number = related.test is None or bounds_number(related)
    key = f"${related.foreign}"
    stages = [*query_stages(scope, org, related.query), *group_stages(having, key, with_number=with_number)]
    decisions = [value_stage(having), decision_stage(related, having)] if related.test else _enough(related)
    if not decisions:
        return stages
    *values, decision = decisions
    decided: Document = {"$match": {"$or": [decision["$match"], HAS_LIST]}}
    return [*stages, *values, decided, {"$project": {"n": "$n" if with_number else {"$literal": 1}}}]


def merged_value_stages(scope: TenantScope, org: str, related: Related) -> Stages:
    """Return the stages from related records to the values that a bound of the join needs, with counts.

    They group stored values first, so that few lists need to be unwound. A value that a list repeats counts once.
    """
    if isinstance(related.test, Slice):
        found = slice_by_value_stages(related.test, related.foreign)
        return [*query_stages(scope, org, related.query), *found, *_enough(related)]
    if isinstance(related.test, Then):
        return sequence_by_value_stages(scope, org, related, merged=True)
    having = related.test or Having(())
    stages: Stages = [
        *query_stages(scope, org, related.query),
        *group_stages(having, group_key(related.foreign)),
        *split_stages(),
        merge_stage(having, "$value"),
    ]
    if related.test:
        return [*stages, value_stage(having), decision_stage(related, having), {"$project": {"n": 1}}]
    return [*stages, *_enough(related)]


def _enough(related: Related) -> Stages:
    """Return the stage that leaves the groups with the lowest number that a bound needs; none if that is 1."""
    bounds = [related.min_count, *([] if related.max_count is None else [related.max_count + 1])]
    least = min((bound for bound in bounds if bound), default=1)
    return [{"$match": {"n": {"$gte": least}}}] if least > 1 else []


def count_by_value_stages(scope: TenantScope, org: str, related: Related) -> Stages:
    """Return the stages that count the records whose values at `local` have enough related records, as `n`.

    The records come in; `local` has a single value in each. One group has all values of records and of related records,
    so that the number of values is not limited by the size of a command.
    """
    if related.local not in _SINGLE_VALUE_PATHS:
        raise ValueError("the records may have several values")
    is_required = bool(related.min_count)
    bounds: Document = {}
    if not isinstance(related.test, Having | Then):
        upper = {} if related.max_count is None else {"$lte": related.max_count}
        bounds = {"n": {"$gte": related.min_count, **upper} if is_required else {"$gt": related.max_count}}
    values: Stages = [
        *merged_value_stages(scope, org, related),
        {"$match": bounds},
        {"$project": {"_id": 0, "value": "$_id", "found": {"$literal": 1}}},
    ]
    sums = {"n": {"$sum": "$record"}, "found": {"$max": "$found"}}
    return [
        {"$project": {"_id": 0, "value": f"${related.local}", "record": {"$literal": 1}}},
        {"$unionWith": {"coll": related.datatype, "pipeline": values}},
        {"$group": {"_id": "$value", **sums}},
        {"$match": {"n": {"$gt": 0}, "found": 1 if is_required else None}},
        {"$group": {"_id": None, "n": {"$sum": "$n"}}},
    ]


def is_countable_by_value(related: Related) -> bool:
    """Return whether `count_by_value_stages` can count the records of a relation."""
    has_expressions = any(isinstance(node, Expression) for query in related.queries for node in walk(query))
    # An expression may fail on a related record of no candidate.
    return related.local in _SINGLE_VALUE_PATHS and _is_decidable_by_values(related) and not has_expressions


def _item_bytes(value: Any) -> int:
    return _TEXT_OVERHEAD_BYTES + len(value.encode()) if isinstance(value, str) else _VALUE_BYTES


def related_lookup_stages(scope: TenantScope, org: str, related: Related, name: str) -> Stages:
    """Return the stages that join as many related records as the bounds need, or their group, into the field `name`."""
    if isinstance(related.test, Then):
        entries = {"$concatArrays": [f"${name}", f"${_later(name)}"]}
        decided = {"$cond": [has_sequence(related, entries), [{}], []]}
        return [*_step_stages(scope, org, related, name), {"$set": {name: decided}}]
    limit = max(related.min_count, 0 if related.max_count is None else related.max_count + 1, 1)
    decision: Stages = [{"$limit": limit}]
    match related.test:
        case Having() as having:
            decision = [*group_stages(having, None), value_stage(having), decision_stage(related, having)]
        case Slice() as test:
            decision = [*slice_stages(test), *matching_stages(scope, org, test.query), *decision]
    return _lookup_stages(scope, org, related, name, [*decision, {"$project": {"_id": 1}}])


def measure_stages(scope: TenantScope, org: str, datatype: str, match: Document, related: Related) -> Stages:
    """Return the stages from the record that a match finds to what the test of a relation sees of it.

    That is a group with aggregates, the first or last records, or the last entries of a sequence, each as documents.
    """

    def found(step: Related, stages: Stages) -> Stages:
        lookup = _lookup_stages(scope, org, step, _MEASURED, stages)
        fields: Stages = [{"$unwind": f"${_MEASURED}"}, {"$replaceRoot": {"newRoot": f"${_MEASURED}"}}]
        return [{"$match": match}, *lookup, *fields]

    match related.test:
        case Having() as having:
            every = replace(having, or_none=True)  # so that aggregates without usable values are null
            return found(related, [*group_stages(every, None), value_stage(every)])
        case Slice() as test:
            return found(related, slice_stages(test))
        case Then(second):
            later = {"$unionWith": {"coll": datatype, "pipeline": found(second, entry_stages(second, 1))}}
            first = found(related, [*entry_stages(related, 0), last_entries_stage()])
            return [*first, *measured_sequence_stages(related, later)]
    raise ValueError("the relation has no test")


def _later(name: str) -> str:
    return f"{name}_then"


def _step_stages(scope: TenantScope, org: str, related: Related, name: str) -> Stages:
    """Return the stages that join the entries of a sequence's steps into two fields."""
    stages: Stages = []
    for number, (step, field_name) in enumerate(zip(related.steps, (name, _later(name)), strict=True)):
        stages += _lookup_stages(scope, org, step, field_name, entry_stages(step, number))
    return stages


def _lookup_stages(scope: TenantScope, org: str, related: Related, name: str, stages: Stages) -> Stages:
    values, variables = f"{name}_local", record_variables(related)
    lookup = {
        "from": related.datatype,
        "localField": related.local if related.local in _SINGLE_VALUE_PATHS else values,
        "foreignField": related.foreign,
        "pipeline": [*query_stages(scope, org, related.query), *stages],
        "as": name,
        **({"let": variables} if variables else {}),
    }
    if related.local not in _SINGLE_VALUE_PATHS:
        return lookup_stages(values, values_at(f"${related.local}"), lookup)
    # Without this, a record that lacks the field would match related records that lack the foreign field.
    is_present = {"$gt": [f"${related.local}", None]}
    return [{"$lookup": lookup}, {"$set": {name: {"$cond": [is_present, f"${name}", []]}}}]


def related_count_condition(related: Related, name: str) -> Document:
    """Return the match on the field `name` of a record whose joined records are within the bounds.

    With aggregates, the field contains the group of records if it meets them; if having no records matches as well, the
    field contains it if it does not.
    """
    if isinstance(related.test, Having):
        return {f"{name}.0": {"$exists": bool(related.min_count)}}
    # The record at the lower bound exists, and the one after the upper bound does not.
    bounds: list[Document] = [{f"{name}.{related.min_count - 1}": {"$exists": True}}] if related.min_count else []
    bounds += [{f"{name}.{related.max_count}": {"$exists": False}}] if related.max_count is not None else []
    return {"$and": bounds}
