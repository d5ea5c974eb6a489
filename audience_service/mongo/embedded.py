"""The embedded store: an in-memory stand-in for MongoDB, for a first look and for unit tests.

It is mongomock-ng, which gets some filters wrong. What it is known to get wrong is refused here (UNIMPLEMENTED, with
the reason) rather than answered; tests/contract holds the rest to what a real engine answers.
"""

import hashlib
import warnings
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from bson import Decimal128
from pymongo.database import Database

from audience_service.domain.caller import Deadline
from audience_service.domain.errors import UnsupportedByStore
from audience_service.domain.explanations.plan import QueryPlan
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.compile import of_node
from audience_service.domain.insights.breakdown import Breakdown
from audience_service.domain.membership.verdicts import Verdicts
from audience_service.domain.ports import ContactList, Population, Record
from audience_service.domain.snapshots.ports import Frozen
from audience_service.domain.snapshots.snapshot import Snapshot
from audience_service.domain.watches.watch import Flip
from audience_service.mongo.checks import MongoChecks
from audience_service.mongo.collections import SUBSCRIBERS
from audience_service.mongo.embedded_refusals import refused, without_suppressed
from audience_service.mongo.joins import Stages
from audience_service.mongo.ledger import MongoLedger
from audience_service.mongo.lists import MongoLists
from audience_service.mongo.members import MongoMembers
from audience_service.mongo.plans import MongoPlans
from audience_service.mongo.scope import scoped
from audience_service.mongo.slices import MongoSlices
from audience_service.mongo.snapshot_rows import MongoFrozen, digest_of, rows_of


def embedded_database(records: Iterable[Record]) -> Database[dict[str, Any]]:
    """A new in-memory database that holds the records.

    Raises UnsupportedByStore where the extra is not installed, and for records with decimals.
    """
    try:
        import mongomock_ng
    except ImportError:
        raise UnsupportedByStore(
            "the embedded store is not installed: set AUDIENCE_MONGODB_URI, or install audience-service[embedded]"
        ) from None
    # It warns that it ignores time limits and batch sizes, which it has no use for.
    warnings.filterwarnings("ignore", message=r".* is accepted by .* for pymongo compatibility", category=UserWarning)
    database: Database[dict[str, Any]] = mongomock_ng.MongoClient(tz_aware=True)["crm"]
    by_collection: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        if _has_decimal(record):
            raise UnsupportedByStore(f"the embedded store takes in no decimals, as {record['pk']} has")
        by_collection.setdefault(record["datatype"], []).append(dict(record))
    for name, documents in by_collection.items():
        database[name].insert_many(documents)
    return database


class EmbeddedMembers(MongoMembers):
    """MongoMembers that refuse what the embedded store gets wrong. Raises UnsupportedByStore besides."""

    def count(self, org: str, population: Population, deadline: Deadline, after: str = "", until: str = "") -> int:
        """As on MongoDB, or refused."""
        with refused(population):
            return super().count(org, population, deadline, after, until)

    def reach(self, org: str, population: Population, deadline: Deadline) -> tuple[int, Record | None]:
        """As on MongoDB, or refused."""
        with refused(population):
            return super().reach(org, population, deadline)

    def regions(self, org: str, populations: Sequence[Population], deadline: Deadline) -> Mapping[int, int]:
        """As on MongoDB, or refused."""
        with ExitStack() as checks:
            for population in populations:
                checks.enter_context(refused(population))
            return super().regions(org, populations, deadline)

    def stream(
        self,
        org: str,
        population: Population,
        paths: Sequence[str],
        batch_size: int,
        after: str,
        deadline: Deadline,
        until: str = "",
    ) -> Generator[list[Record], None, None]:
        """As on MongoDB, or refused."""
        found = population if isinstance(population, ContactList) else self._without_lookups(org, population)
        with refused(found):
            yield from super().stream(org, found, paths, batch_size, after, deadline, until)

    def exclusions(
        self,
        org: str,
        candidates: Population,
        reasons: Sequence[CompiledFilter],
        deadline: Deadline,
        after: str = "",
        until: str = "",
    ) -> Sequence[int]:
        """As on MongoDB, or refused."""
        told = [self._without_lookups(org, reason) for reason in reasons]
        with ExitStack() as checks:
            for population in (candidates, *told):
                checks.enter_context(refused(population))
            return super().exclusions(org, candidates, told, deadline, after, until)

    def _without_lookups(self, org: str, compiled: CompiledFilter) -> CompiledFilter:
        """The filter without lookups of subscriber records, where the org has none that they could find."""
        if compiled.joined is None or self._database[SUBSCRIBERS].find_one(scoped(org)):
            return compiled
        return of_node(compiled.datatype, without_suppressed(compiled.node), compiled.place)


class EmbeddedChecks(MongoChecks):
    """MongoChecks that refuse what the embedded store gets wrong. Raises UnsupportedByStore besides."""

    def judge(
        self,
        org: str,
        datatype: str,
        populations: Sequence[CompiledFilter],
        ids: Sequence[str],
        paths: Sequence[str],
        deadline: Deadline,
    ) -> Verdicts:
        """As on MongoDB, or refused."""
        with ExitStack() as checks:
            for population in populations:
                checks.enter_context(refused(population))
            return super().judge(org, datatype, populations, ids, paths, deadline)


class EmbeddedSlices(MongoSlices):
    """MongoSlices that refuse what the embedded store gets wrong. Raises UnsupportedByStore besides."""

    def among(self, org: str, population: Population, keys: Sequence[str], deadline: Deadline) -> Sequence[str]:
        """As on MongoDB, or refused; all members are read, since $in compares every record with every key there."""
        wanted = frozenset(keys)
        with refused(population):
            members = self._run(org, population, {}, [{"$project": {"_id": 0, "sk": 1}}], deadline)
            return [member["sk"] for member in members if member["sk"] in wanted]

    def count_between(self, org: str, population: Population, after: str, until: str, deadline: Deadline) -> int:
        """As on MongoDB, or refused."""
        with refused(population):
            return super().count_between(org, population, after, until, deadline)

    def first_between(
        self, org: str, population: Population, after: str, until: str, deadline: Deadline
    ) -> Record | None:
        """As on MongoDB, or refused."""
        with refused(population):
            return super().first_between(org, population, after, until, deadline)


class EmbeddedLists(MongoLists):
    """MongoLists that freezes nothing that the embedded store would get wrong. Raises UnsupportedByStore besides."""

    def freeze(self, org: str, contacts: ContactList, population: Population, deadline: Deadline) -> None:
        """As on MongoDB, or refused."""
        with refused(population):
            super().freeze(org, contacts, population, deadline)


class EmbeddedLedger(MongoLedger):
    """MongoLedger that refuses what the embedded store gets wrong. Raises UnsupportedByStore besides."""

    def record(self, org: str, generation: str, population: Population, deadline: Deadline) -> None:
        """As on MongoDB, or refused."""
        with refused(population):
            super().record(org, generation, population, deadline)

    def differences(
        self, org: str, generation: str, population: Population, deadline: Deadline
    ) -> Generator[list[str], None, None]:
        """As on MongoDB, or refused."""
        with refused(population):
            yield from super().differences(org, generation, population, deadline)

    def judge(
        self, org: str, generation: str, population: Population, keys: Sequence[str], deadline: Deadline
    ) -> list[Flip]:
        """As on MongoDB, or refused."""
        with refused(population):
            return super().judge(org, generation, population, keys, deadline)


class EmbeddedChanges:
    """The change feed of a store that tells of none."""

    def __init__(self, _: Callable[[], None]) -> None:
        """Nothing will ever ring."""

    def subscribe(self, org: str, datatype: str) -> None:
        """Nobody is told of anything."""

    def close(self) -> None:
        """Nothing to end."""


class EmbeddedFrozen(MongoFrozen):
    """MongoFrozen that freezes nothing that the embedded store would get wrong. Raises UnsupportedByStore besides."""

    def freeze(
        self,
        org: str,
        snapshot: Snapshot,
        candidates: Population,
        reasons: Mapping[str, CompiledFilter],
        deadline: Deadline,
        on_written: Callable[[], None],
    ) -> Frozen:
        """As on MongoDB, or refused."""
        with ExitStack() as checks:
            for population in (candidates, *reasons.values()):
                checks.enter_context(refused(population))
            return super().freeze(org, snapshot, candidates, reasons, deadline, on_written)

    def _has_instants(self) -> bool:
        return False

    def _write(self, collection: str, stages: Stages, *, at_once: bool) -> Mapping[str, Any]:  # noqa: ARG002
        self._database[collection].aggregate(stages)
        return {}

    def _measure(self, org: str, rows_id: str, deadline: Deadline) -> dict[str, tuple[int, str]]:  # noqa: ARG002
        """With another hash, since it does not know the database's."""
        sums: dict[str, tuple[int, int]] = {}
        for row in self._collection.find(scoped(org, rows_of(rows_id)), {"audience": 1, "sk": 1}):
            count, total = sums.get(row["audience"], (0, 0))
            hashed = hashlib.sha256(row["sk"].encode()).digest()
            sums[row["audience"]] = count + 1, total + int.from_bytes(hashed[:8])
        return {audience: (count, digest_of(total >> 32, total)) for audience, (count, total) in sums.items()}


class EmbeddedPlans(MongoPlans):
    """No plans: the embedded store has no indexes to choose from, and makes its explain up."""

    def plan(self, org: str, population: Population, deadline: Deadline, *, run: bool) -> QueryPlan:  # noqa: ARG002
        """Refused. Raises UnsupportedByStore."""
        raise UnsupportedByStore("the embedded store has no query plans; a MongoDB explains this filter")


class EmbeddedInsights:
    """The InsightRepository of a store that cannot rank values or accumulate them. Raises UnsupportedByStore."""

    def breakdown(self, *_: Any) -> Breakdown:
        """Refused."""
        raise UnsupportedByStore("the embedded store does not know $setWindowFields; a MongoDB answers insights")


class EmbeddedLookalikes:
    """The LookalikeRepository of a store that has neither hashes nor ranks of values. Raises UnsupportedByStore."""

    def _refuse(self, *_: Any) -> Any:
        raise UnsupportedByStore("the embedded store does not know $setWindowFields; a MongoDB models lookalikes")

    check_supported = survey = tally = moments = scores = seed_scores = write = _refuse


def _has_decimal(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_has_decimal, value.values()))
    return any(map(_has_decimal, value)) if isinstance(value, list) else isinstance(value, Decimal128)
