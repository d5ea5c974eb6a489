"""The members of populations: counted, sampled and streamed by the database."""

import itertools
from collections.abc import Generator, Sequence
from contextlib import closing
from typing import Any

from pymongo.database import Database

from audience_service.domain.caller import Deadline
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.compile import LIVING
from audience_service.domain.filters.filter import Document
from audience_service.domain.ports import ContactList, Population, Record
from audience_service.mongo.collections import LISTS
from audience_service.mongo.failures import limited
from audience_service.mongo.scope import scoped

Stages = list[Document]

_CURSOR_BATCH = 10_000
"""Records that a cursor brings at once, 16 MiB at most: a batch costs a round trip, however few a caller's are."""


class MongoMembers:
    """The MemberRepository on MongoDB; domain/ports.py states what each method promises."""

    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._database = database

    def count(self, org: str, population: Population, deadline: Deadline) -> int:
        """By the same match as stream, so that the two agree; $count, unlike the count command, on shards too."""
        collection, stages = pipeline(org, population)
        with limited(self._database, deadline):
            answer = list(self._database[collection].aggregate([*stages, {"$count": "n"}]))
        return int(answer[0]["n"]) if answer else 0

    def sample(self, org: str, population: Population, deadline: Deadline) -> Record | None:
        """The first member that the database comes upon."""
        collection, stages = pipeline(org, population)
        with limited(self._database, deadline):
            found = list(self._database[collection].aggregate([*stages, {"$limit": 1}]))
        return found[0] if found else None

    def stream(
        self,
        org: str,
        population: Population,
        paths: Sequence[str],
        batch_size: int,
        after: str,
        deadline: Deadline,
    ) -> Generator[list[Record], None, None]:
        """One cursor in sk order; closed with the generator."""
        collection, stages = pipeline(org, population, after=after, ordered=True)
        stages.append({"$project": {"_id": 0, "pk": 1, "sk": 1, **dict.fromkeys(_outermost(paths), 1)}})
        with limited(self._database, deadline):
            cursor = self._database[collection].aggregate(
                stages, batchSize=max(batch_size, _CURSOR_BATCH), allowDiskUse=True
            )
        with closing(cursor):
            while True:
                with limited(self._database, deadline):
                    batch: list[Record] = list(itertools.islice(cursor, batch_size))
                if not batch:
                    return
                yield batch


def pipeline(org: str, population: Population, *, after: str = "", ordered: bool = False) -> tuple[str, Stages]:
    """The collection and the stages that yield a population's records behind the sk `after`.

    A compiled filter says itself whether archived records count; a list yields living ones alone. The tenant scope is
    anded in here, after the filter has been compiled. Sorting comes before a list is joined, on the index that the list
    is read by.
    """
    behind: Document = {"sk": {"$gt": after}} if after else {}
    sort: Stages = [{"$sort": {"sk": 1}}] if ordered else []
    match population:
        case CompiledFilter(datatype, match, stages):
            return datatype, [{"$match": scoped(org, behind, match)}, *sort, *stages]
        case ContactList(audience_id, datatype):
            on_list = {"$match": scoped(org, {"audience": audience_id}, behind)}
            return LISTS, [on_list, *sort, *_joined(datatype)]


def _joined(datatype: str) -> Stages:
    """From a list's rows to the records they refer to, by sk, which holds the org."""
    return [
        {"$lookup": {"from": datatype, "localField": "sk", "foreignField": "sk", "as": "record"}},
        {"$unwind": "$record"},
        {"$replaceRoot": {"newRoot": "$record"}},
        {"$match": LIVING},
    ]


def _outermost(paths: Sequence[str]) -> list[str]:
    """The paths without those inside another of them, which MongoDB refuses as a collision."""
    kept = {"pk", "sk"}
    return [p for p in dict.fromkeys(paths) if p not in kept and not any(p.startswith(f"{q}.") for q in paths)]
