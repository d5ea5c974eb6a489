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

from audience_service.domain.caller import Deadline
from audience_service.domain.errors import InvalidFilter, OutOfTime
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.compile import NOTHING, emit
from audience_service.domain.filters.filter import Document
from audience_service.domain.filters.nodes import Expression, Node, Related, joins, walk
from audience_service.mongo.failures import limited
from audience_service.mongo.lookups import looked_up_by, values_at
from audience_service.mongo.scope import scoped

Stages = list[Document]

_FEW, _MANY = 1_000, 50_000
"""So few records are looked up; for so many reading may take as long as the deadline allows."""
_LOOK_SECONDS = 100e-6
"""What a look takes that an index serves. Without one it takes as long as reading does."""
_FOREVER = 1e9
_SOUGHT_SHARE, _MOST_SOUGHT = 50, 5_000
"""One value in so many records, and no more than so many values, are sought in an index rather than in each record."""
_READ_BATCH = 50_000
_TEXT_BYTES, _VALUE_BYTES = 14, 25
"""What an item of a BSON array takes at most: a text beside itself, and any other value that is comparable."""

_IDS = frozenset(("pk", "sk"))
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
class Held:
    """The values that enough related records have, and those that too many have; None where that is not asked."""

    enough: Sequence[Any] | None
    many: Sequence[Any] | None
    sought: int = 0
    """Up to so many values are for an index to lead to."""

    def condition(self, local: str) -> Document:
        """What a record meets that has one of the former in `local`, and none of the latter."""
        conditions: list[Document] = []
        if self.enough is not None:
            has_one = {local: {"$in": self.enough}}
            # Twice negated no index serves it: some engines seek each value in it, however many there are.
            conditions.append(has_one if len(self.enough) <= self.sought else {"$nor": [{"$nor": [has_one]}]})
        if self.many is not None:
            conditions.append({"$nor": [{local: {"$in": self.many}}]})
        return conditions[0] if len(conditions) == 1 else {"$and": conditions}

    @property
    def size(self) -> int:
        """Bytes that they take in a filter, or more."""
        return sum(map(_item_bytes, self.enough or ())) + sum(map(_item_bytes, self.many or ()))


@dataclass(frozen=True, slots=True)
class SettledFilter(CompiledFilter):
    """A filter that several commands run, for all of which its related records have been read."""

    held: Mapping[int, Held] = field(default_factory=dict)
    """What those of a join were read as, by its identity."""
    addresses: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    """The addresses of subscribers by channel and status, of the channels that are not looked up."""


def certain(related: Related) -> Document | None:
    """The condition where it is the same whatever is related to a record."""
    if related.most is not None and related.most < related.least:
        return NOTHING
    return {} if not related.least and related.most is None else None


def read_related(
    database: Database[dict[str, Any]],
    org: str,
    nodes: Sequence[Node],
    candidates: Candidates,
    deadline: Deadline,
    room: int,
) -> dict[int, Held]:
    """What the related records of some nodes are read as, by the identity of the join; of those that are not, nothing.

    They fit into so many bytes of a filter that holds the nodes. Raises what `limited` raises.
    """
    found = [join for node in nodes for join in joins(node) if isinstance(join, Related) and certain(join) is None]
    times = Counter(map(id, found))
    reader = _Reader(database, org, candidates, deadline)
    held: dict[int, Held] = {}
    for join in {id(join): join for join in found}.values():
        if values := reader.read(join, room // times[id(join)]):
            room -= times[id(join)] * values.size
            held[id(join)] = values
    return held


class _Reader:
    """Reads for the candidates of one filter."""

    def __init__(
        self, database: Database[dict[str, Any]], org: str, candidates: Candidates, deadline: Deadline
    ) -> None:
        self._database = database
        self._org = org
        self._candidates = candidates
        self._deadline = deadline
        self._known_number: int | None = None

    def read(self, related: Related, room: int) -> Held | None:
        """The values; None where looks take less time, where they take more than so many bytes, or do not tell.

        Raises what `limited` raises. What the database refuses in the query is left for the looks to meet, which are
        at the candidates' related records alone.
        """
        least, most = related.least, related.most
        if not _is_told_by_values(related):
            return None
        patience = self._patience(related)
        if not patience or (max(least, 0 if most is None else most + 1) > 1 and self._have_several(related.local)):
            return None
        try:
            found = self._values(related, self._deadline.within(patience), room)
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
        enough = [value for value, number in found if number >= least] if least else None
        many = [value for value, number in found if number > most] if most is not None else None
        sought = self._number() // _SOUGHT_SHARE if self._number() < _MANY else _MOST_SOUGHT
        held = Held(enough, many, sought)
        return held if held.size <= room else None

    def _patience(self, related: Related) -> float:
        """For how many seconds to read: as long as looks would take, none at all where these are few."""
        number = self._number()
        if number >= _MANY or not self._is_indexed(related):
            return _FOREVER
        return number * _LOOK_SECONDS if number > _FEW else 0.0

    def _is_indexed(self, related: Related) -> bool:
        """Whether a look need not read the related records whole."""
        with limited(self._database, self._deadline):
            indexes = self._database[related.datatype].index_information().values()
        return any(index["key"][0][0] == related.foreign for index in indexes)

    def _number(self) -> int:
        """How many candidates there are, as long as they are not many."""
        if self._known_number is None:
            with limited(self._database, self._deadline):
                collection = self._database[self._candidates.collection]
                self._known_number = collection.count_documents(self._candidates.match, limit=_MANY)
        return self._known_number

    def _have_several(self, path: str) -> bool:
        """Whether a record of the org has several values there, so that one related record may be counted by each."""
        if path in _IDS:
            return False
        steps = path.split(".")
        second = [{f"{'.'.join(steps[:end])}.1": {"$exists": True}} for end in range(1, len(steps) + 1)]
        with limited(self._database, self._deadline):
            collection = self._database[self._candidates.datatype]
            return collection.find_one(scoped(self._org, {"$or": second}), {"_id": 1}) is not None

    def _values(self, related: Related, deadline: Deadline, room: int) -> list[tuple[Any, int]] | None:
        """The values that any of the counts asks for, with how many related records have them.

        None where they take more than so many bytes, or some are no values for an $in.
        """
        bounds = [related.least, *([] if related.most is None else [related.most + 1])]
        fewest = min(bound for bound in bounds if bound)
        found: list[tuple[Any, int]] = []
        with (
            limited(self._database, deadline),
            closing(
                self._database[related.datatype].aggregate(
                    _values_stages(self._org, related, fewest),
                    batchSize=_READ_BATCH,
                    allowDiskUse=True,
                )
            ) as rows,
        ):
            while batch := [(row["_id"], int(row["n"])) for row in islice(rows, _READ_BATCH)]:
                found += batch
                room -= sum(_item_bytes(value) for value, _ in batch)
                if room < 0 or not all(isinstance(value, _COMPARABLE) for value, _ in batch):
                    return None
        return found


def _is_told_by_values(related: Related) -> bool:
    """Whether conditions on the paths find the values that lookups go by: a number may be a place in a list to them."""
    return not any(step.isdigit() for path in (related.local, related.foreign) for step in path.split("."))


def _values_stages(org: str, related: Related, fewest: int) -> Stages:
    """Grouped as they stand first, which leaves few to be taken apart; a list that has a value twice has it once."""
    path = related.foreign
    is_flat = len(path.removeprefix("data.").split(".")) == 1
    stages: Stages = [
        {"$match": scoped(org, emit(related.query))},
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
    return [*stages, {"$match": {"n": {"$gte": fewest}}}] if fewest > 1 else stages


def _item_bytes(value: Any) -> int:
    return _TEXT_BYTES + len(value.encode()) if isinstance(value, str) else _VALUE_BYTES


def related_stages(org: str, related: Related, name: str) -> Stages:
    """What brings as many related records as it takes to decide, into the field `name`."""
    values = f"{name}_local"
    enough = max(related.least, 0 if related.most is None else related.most + 1, 1)
    lookup = {
        "from": related.datatype,
        "localField": related.local if related.local in _IDS else values,
        "foreignField": related.foreign,
        "pipeline": [
            {"$match": scoped(org, emit(related.query))},
            {"$limit": enough},
            {"$project": {"_id": 1}},
        ],
        "as": name,
    }
    if related.local not in _IDS:
        return looked_up_by(values, values_at(f"${related.local}"), lookup)
    # A record that lacks it all the same would be related to those without the foreign field.
    is_there = {"$gt": [f"${related.local}", None]}
    return [{"$lookup": lookup}, {"$set": {name: {"$cond": [is_there, f"${name}", []]}}}]


def found_condition(related: Related, name: str) -> Document:
    """Whether those that were brought into the field `name` are as many as asked for."""
    # The n-th of those found is there, and there is none behind the last that may be.
    bounds: list[Document] = [{f"{name}.{related.least - 1}": {"$exists": True}}] if related.least else []
    bounds += [{f"{name}.{related.most}": {"$exists": False}}] if related.most is not None else []
    return {"$and": bounds}
