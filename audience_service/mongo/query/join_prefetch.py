"""Records of other datatypes that a filter's records are related to: read before the filter, or looked up for each.

Read, they are passed over once: the values that enough of those that match have go into the filter, which finds the
records that have one of them as any $in does. That takes as long as there are related records to read, however many
records the filter has; looks take as long as it has records. So those of few are looked up, and reading for more of
them is given up once it has taken as long as their looks would.

Of a record with several values the related records of each count, and one that has two of them counts once: by value
they do not add up. Where more than one is asked for they are looked up, unless no record has several values there.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any

from bson import ObjectId
from bson.datetime_ms import DatetimeMS
from pymongo.database import Database
from pymongo.errors import OperationFailure

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import InvalidFilter, OutOfTime
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.ast import Expression, Node, Related, joins, walk
from audience_service.domain.filters.compiler import MATCH_NONE, to_match
from audience_service.domain.filters.filter import Document
from audience_service.mongo.core.errors import with_deadline
from audience_service.mongo.core.scope import tenant_match
from audience_service.mongo.query.lookups import lookup_stages, values_at

Stages = list[Document]

MIN_PREFETCH_CANDIDATES, _MAX_COUNTED_CANDIDATES = 1_000, 50_000
"""So few records are looked up; for so many reading may take as long as the deadline allows."""
LOOKUP_SECONDS = 100e-6
"""What a look takes that an index serves. Without one it takes as long as reading does."""
NO_TIMEOUT = 1e9
_INDEX_SHARE, _MAX_INDEX_VALUES = 50, 5_000
"""One value in so many records, and no more than so many values, are sought in an index rather than in each record."""
_READ_BATCH_SIZE = 50_000
_TEXT_OVERHEAD_BYTES, _VALUE_BYTES = 14, 25
"""What an item of a BSON array takes at most: a text beside itself, and any other value that is comparable."""

_SINGLE_VALUE_PATHS = frozenset(("pk", "sk"))
"""What every record has one text in."""
_COMPARABLE = (str, bool, int, float, datetime, DatetimeMS, ObjectId)
"""What an $in takes for nothing but the value that it is equal to, unlike patterns and objects."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """The records that joins are to tell of: of a datatype, those that meet a match, or those on a list that do."""

    datatype: str
    collection: str
    match: Document


@dataclass(frozen=True, slots=True)
class JoinValues:
    """The values that enough related records have, and those that too many have; None where that is not asked."""

    included: Sequence[Any] | None
    excluded: Sequence[Any] | None
    index_limit: int = 0
    """Up to so many values are for an index to lead to."""

    def condition(self, local: str) -> Document:
        """What a record meets that has one of the former in `local`, and none of the latter."""
        conditions: list[Document] = []
        if self.included is not None:
            has_one = {local: {"$in": self.included}}
            # Twice negated no index serves it: some engines seek each value in it, however many there are.
            conditions.append(has_one if len(self.included) <= self.index_limit else {"$nor": [{"$nor": [has_one]}]})
        if self.excluded is not None:
            conditions.append({"$nor": [{local: {"$in": self.excluded}}]})
        return conditions[0] if len(conditions) == 1 else {"$and": conditions}

    @property
    def size(self) -> int:
        """Bytes that they take in a filter, or more."""
        return sum(map(_item_bytes, self.included or ())) + sum(map(_item_bytes, self.excluded or ()))


@dataclass(frozen=True, slots=True)
class PrefetchedFilter(CompiledFilter):
    """A filter that several commands run, for all of which its related records have been read."""

    prefetched: Mapping[int, JoinValues] = field(default_factory=dict)
    """What those of a join were read as, by its identity."""
    addresses: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    """The addresses of subscribers by channel and status, of the channels that are not looked up."""


def constant_condition(related: Related) -> Document | None:
    """The condition where it is the same whatever is related to a record."""
    if related.max_count is not None and related.max_count < related.min_count:
        return MATCH_NONE
    return {} if not related.min_count and related.max_count is None else None


def prefetch_joins(
    database: Database[dict[str, Any]],
    org: str,
    nodes: Sequence[Node],
    candidates: Candidates,
    deadline: Deadline,
    max_bytes: int,
) -> dict[int, JoinValues]:
    """What the related records of some nodes are read as, by the identity of the join; of those that are not, nothing.

    They fit into so many bytes of a filter that holds the nodes. Raises what `limited` raises.
    """
    found = [
        join for node in nodes for join in joins(node) if isinstance(join, Related) and constant_condition(join) is None
    ]
    use_counts = Counter(map(id, found))
    reader = JoinPrefetcher(database, org, candidates, deadline)
    prefetched: dict[int, JoinValues] = {}
    for join in {id(join): join for join in found}.values():
        if values := reader.prefetch(join, max_bytes // use_counts[id(join)]):
            max_bytes -= use_counts[id(join)] * values.size
            prefetched[id(join)] = values
    return prefetched


class JoinPrefetcher:
    """Reads for the candidates of one filter."""

    def __init__(
        self, database: Database[dict[str, Any]], org: str, candidates: Candidates, deadline: Deadline
    ) -> None:
        self._database = database
        self._org = org
        self._candidates = candidates
        self._deadline = deadline
        self._cached_candidate_count: int | None = None

    def prefetch(self, related: Related, max_bytes: int) -> JoinValues | None:
        """The values; None where looks take less time, where they take more than so many bytes, or do not tell.

        Raises what `limited` raises. What the database refuses in the query is left for the looks to meet, which are
        at the candidates' related records alone.
        """
        min_count, max_count = related.min_count, related.max_count
        if not _is_decidable_by_values(related):
            return None
        timeout = self.prefetch_timeout(related)
        if not timeout or (
            max(min_count, 0 if max_count is None else max_count + 1) > 1 and self._has_multiple_values(related.local)
        ):
            return None
        try:
            found = self._read_values(related, self._deadline.min_with(timeout), max_bytes)
        except OutOfTime:
            self._deadline.check()
            return None
        except InvalidFilter:
            return None
        except OperationFailure:
            if any(isinstance(node, Expression) for node in walk(related.query)):
                return None
            raise
        if found is None:
            return None
        included = [value for value, number in found if number >= min_count] if min_count else None
        excluded = [value for value, number in found if number > max_count] if max_count is not None else None
        index_limit = (
            self._candidate_count() // _INDEX_SHARE
            if self._candidate_count() < _MAX_COUNTED_CANDIDATES
            else _MAX_INDEX_VALUES
        )
        join_values = JoinValues(included, excluded, index_limit)
        return join_values if join_values.size <= max_bytes else None

    def prefetch_timeout(self, related: Related) -> float:
        """For how many seconds to read: as long as looks would take, none at all where these are few."""
        number = self._candidate_count()
        if number >= _MAX_COUNTED_CANDIDATES or not self._is_indexed(related):
            return NO_TIMEOUT
        return number * LOOKUP_SECONDS if number > MIN_PREFETCH_CANDIDATES else 0.0

    def _is_indexed(self, related: Related) -> bool:
        """Whether a look need not read the related records whole."""
        with with_deadline(self._database, self._deadline):
            indexes = self._database[related.datatype].index_information().values()
        return any(index["key"][0][0] == related.foreign for index in indexes)

    def _candidate_count(self) -> int:
        """How many candidates there are, as long as they are not many."""
        if self._cached_candidate_count is None:
            with with_deadline(self._database, self._deadline):
                collection = self._database[self._candidates.collection]
                self._cached_candidate_count = collection.count_documents(
                    self._candidates.match, limit=_MAX_COUNTED_CANDIDATES
                )
        return self._cached_candidate_count

    def _has_multiple_values(self, path: str) -> bool:
        """Whether a record of the org has several values there, so that one related record may be counted by each."""
        if path in _SINGLE_VALUE_PATHS:
            return False
        steps = path.split(".")
        second = [{f"{'.'.join(steps[:end])}.1": {"$exists": True}} for end in range(1, len(steps) + 1)]
        with with_deadline(self._database, self._deadline):
            collection = self._database[self._candidates.datatype]
            return collection.find_one(tenant_match(self._org, {"$or": second}), {"_id": 1}) is not None

    def _read_values(self, related: Related, deadline: Deadline, max_bytes: int) -> list[tuple[Any, int]] | None:
        """The values that any of the counts asks for, with how many related records have them.

        None where they take more than so many bytes, or some are no values for an $in.
        """
        bounds = [related.min_count, *([] if related.max_count is None else [related.max_count + 1])]
        min_count = min(bound for bound in bounds if bound)
        found: list[tuple[Any, int]] = []
        with (
            with_deadline(self._database, deadline),
            closing(
                self._database[related.datatype].aggregate(
                    _value_count_stages(self._org, related, min_count),
                    batchSize=_READ_BATCH_SIZE,
                    allowDiskUse=True,
                )
            ) as rows,
        ):
            while batch := [(row["_id"], int(row["n"])) for row in islice(rows, _READ_BATCH_SIZE)]:
                found += batch
                max_bytes -= sum(_item_bytes(value) for value, _ in batch)
                if max_bytes < 0 or not all(isinstance(value, _COMPARABLE) for value, _ in batch):
                    return None
        return found


def _is_decidable_by_values(related: Related) -> bool:
    """Whether conditions on the paths find the values that lookups go by: a number may be a place in a list to them."""
    return not any(step.isdigit() for path in (related.local, related.foreign) for step in path.split("."))


def _value_count_stages(org: str, related: Related, min_count: int) -> Stages:
    """Grouped as they stand first, which leaves few to be taken apart; a list that has a value twice has it once."""
    path = related.foreign
    is_flat = len(path.removeprefix("data.").split(".")) == 1
    stages: Stages = [
        {"$match": tenant_match(org, to_match(related.query))},
        {"$group": {"_id": f"${path}" if is_flat else values_at(f"${path}"), "n": {"$sum": 1}}},
        {
            "$project": {
                "n": 1,
                "value": {"$cond": [{"$isArray": "$_id"}, {"$setUnion": [values_at("$_id"), []]}, "$_id"]},
            }
        },
        {"$unwind": "$value"},
        {"$group": {"_id": "$value", "n": {"$sum": "$n"}}},
    ]
    return [*stages, {"$match": {"n": {"$gte": min_count}}}] if min_count > 1 else stages


def _item_bytes(value: Any) -> int:
    return _TEXT_OVERHEAD_BYTES + len(value.encode()) if isinstance(value, str) else _VALUE_BYTES


def related_lookup_stages(org: str, related: Related, name: str) -> Stages:
    """What brings as many related records as it takes to decide, into the field `name`."""
    values = f"{name}_local"
    limit = max(related.min_count, 0 if related.max_count is None else related.max_count + 1, 1)
    lookup = {
        "from": related.datatype,
        "localField": related.local if related.local in _SINGLE_VALUE_PATHS else values,
        "foreignField": related.foreign,
        "pipeline": [
            {"$match": tenant_match(org, to_match(related.query))},
            {"$limit": limit},
            {"$project": {"_id": 1}},
        ],
        "as": name,
    }
    if related.local not in _SINGLE_VALUE_PATHS:
        return lookup_stages(values, values_at(f"${related.local}"), lookup)
    # A record that lacks it all the same would be related to those without the foreign field.
    is_present = {"$gt": [f"${related.local}", None]}
    return [{"$lookup": lookup}, {"$set": {name: {"$cond": [is_present, f"${name}", []]}}}]


def related_count_condition(related: Related, name: str) -> Document:
    """Whether those that were brought into the field `name` are as many as asked for."""
    # The n-th of those found is there, and there is none behind the last that may be.
    bounds: list[Document] = [{f"{name}.{related.min_count - 1}": {"$exists": True}}] if related.min_count else []
    bounds += [{f"{name}.{related.max_count}": {"$exists": False}}] if related.max_count is not None else []
    return {"$and": bounds}
