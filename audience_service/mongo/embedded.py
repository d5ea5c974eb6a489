"""The embedded store: an in-memory stand-in for MongoDB, for a first look and for unit tests.

It is mongomock-ng, which gets some filters wrong. What it is known to get wrong is refused here (UNIMPLEMENTED, with
the reason) rather than answered; tests/contract holds the rest to what a real engine answers.
"""

import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from bson import Decimal128
from pymongo.database import Database
from pymongo.errors import PyMongoError

from audience_service.domain.breakdown import Breakdown
from audience_service.domain.caller import Deadline
from audience_service.domain.errors import AudienceError, UnsupportedByStore
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.compile import emit
from audience_service.domain.filters.nodes import Related, Suppressed, joins
from audience_service.domain.plan import QueryPlan
from audience_service.domain.ports import ContactList, Population, Record
from audience_service.domain.verdicts import Verdicts
from audience_service.domain.watches.watch import Flip
from audience_service.mongo.checks import MongoChecks
from audience_service.mongo.ledger import MongoLedger
from audience_service.mongo.lists import MongoLists
from audience_service.mongo.members import MongoMembers
from audience_service.mongo.plans import MongoPlans
from audience_service.mongo.slices import MongoSlices

_LOGICAL = frozenset(("$and", "$or", "$nor"))
_EQUALITIES = frozenset(("$eq", "$ne", "$in", "$nin", "$all"))


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

    def count(self, org: str, population: Population, deadline: Deadline) -> int:
        """As on MongoDB, or refused."""
        with _refused(population):
            return super().count(org, population, deadline)

    def reach(self, org: str, population: Population, deadline: Deadline) -> tuple[int, Record | None]:
        """As on MongoDB, or refused."""
        with _refused(population):
            return super().reach(org, population, deadline)

    def regions(self, org: str, populations: Sequence[Population], deadline: Deadline) -> Mapping[int, int]:
        """As on MongoDB, or refused."""
        with ExitStack() as checks:
            for population in populations:
                checks.enter_context(_refused(population))
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
        with _refused(population):
            yield from super().stream(org, population, paths, batch_size, after, deadline, until)

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
        with ExitStack() as checks:
            for population in (candidates, *reasons):
                checks.enter_context(_refused(population))
            return super().exclusions(org, candidates, reasons, deadline, after, until)


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
                checks.enter_context(_refused(population))
            return super().judge(org, datatype, populations, ids, paths, deadline)


class EmbeddedSlices(MongoSlices):
    """MongoSlices that refuse what the embedded store gets wrong. Raises UnsupportedByStore besides."""

    def among(self, org: str, population: Population, keys: Sequence[str], deadline: Deadline) -> Sequence[str]:
        """As on MongoDB, or refused; all members are read, since $in compares every record with every key there."""
        wanted = frozenset(keys)
        with _refused(population):
            members = self._run(org, population, {}, [{"$project": {"_id": 0, "sk": 1}}], deadline)
            return [member["sk"] for member in members if member["sk"] in wanted]

    def count_between(self, org: str, population: Population, after: str, until: str, deadline: Deadline) -> int:
        """As on MongoDB, or refused."""
        with _refused(population):
            return super().count_between(org, population, after, until, deadline)

    def first_between(
        self, org: str, population: Population, after: str, until: str, deadline: Deadline
    ) -> Record | None:
        """As on MongoDB, or refused."""
        with _refused(population):
            return super().first_between(org, population, after, until, deadline)


class EmbeddedLists(MongoLists):
    """MongoLists that freezes nothing that the embedded store would get wrong. Raises UnsupportedByStore besides."""

    def freeze(self, org: str, contacts: ContactList, population: Population, deadline: Deadline) -> None:
        """As on MongoDB, or refused."""
        with _refused(population):
            super().freeze(org, contacts, population, deadline)


class EmbeddedLedger(MongoLedger):
    """MongoLedger that refuses what the embedded store gets wrong. Raises UnsupportedByStore besides."""

    def record(self, org: str, generation: str, population: Population, deadline: Deadline) -> None:
        """As on MongoDB, or refused."""
        with _refused(population):
            super().record(org, generation, population, deadline)

    def differences(
        self, org: str, generation: str, population: Population, deadline: Deadline
    ) -> Generator[list[str], None, None]:
        """As on MongoDB, or refused."""
        with _refused(population):
            yield from super().differences(org, generation, population, deadline)

    def judge(
        self, org: str, generation: str, population: Population, keys: Sequence[str], deadline: Deadline
    ) -> list[Flip]:
        """As on MongoDB, or refused."""
        with _refused(population):
            return super().judge(org, generation, population, keys, deadline)


class EmbeddedChanges:
    """The change feed of a store that tells of none."""

    def __init__(self, _: Callable[[], None]) -> None:
        """Nothing will ever ring."""

    def subscribe(self, org: str, datatype: str) -> None:
        """Nobody is told of anything."""

    def close(self) -> None:
        """Nothing to end."""


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


@contextmanager
def _refused(population: Population) -> Iterator[None]:
    if isinstance(population, CompiledFilter):
        for reason in _wrong_filters(population):
            raise UnsupportedByStore(f"the embedded store {reason}; a MongoDB answers this filter")
    try:
        yield
    except (AudienceError, PyMongoError):
        raise
    except Exception as error:
        # It fails in many ways on values that it does not know (decimals, say), none of them MongoDB's.
        raise UnsupportedByStore(f"the embedded store cannot evaluate this filter: {error}") from error


def _wrong_filters(population: CompiledFilter) -> Iterator[str]:
    if population.expressions:
        yield "does not know the expressions of $expr"
    yield from _wrong_answers(population.match)
    if population.joined:
        if any(isinstance(join, Related | Suppressed) for join in joins(population.joined)):
            yield "does not join related records as MongoDB does"
        yield from _wrong_answers(emit(population.joined, lambda _: {}))


def _wrong_answers(match: Mapping[str, Any]) -> Iterator[str]:
    """Why the store would answer a match wrongly, as differential tests against a real engine have shown."""
    for key, value in match.items():
        if key in _LOGICAL:
            for item in value:
                yield from _wrong_answers(item)
        else:
            yield from _wrong_conditions(key, value)


def _wrong_conditions(path: str, operators: Mapping[str, Any]) -> Iterator[str]:
    nested = "." in path.removeprefix("data.")
    if path.rpartition(".")[2].isdigit():
        yield "looks into the lists that stand at an index of a list"
    for name, operand in operators.items():
        if name == "$size":
            yield "counts objects and texts in $size"
        if name == "$mod" or name.startswith("$bits"):
            yield f"does not know {name}"
        if name == "$type":
            yield "mistakes types in $type"
        if name == "$exists" and nested:
            yield "looks for $exists in arrays wrongly"
        if name == "$all" and not operand:
            yield "finds everything with an empty $all"
        if name in ("$gt", "$gte", "$lt", "$lte"):
            yield from _wrong_order(operand)
        if name in _EQUALITIES:
            for value in [operand] if name in ("$eq", "$ne") else operand:
                yield from _wrong_equality(value, nested)
        if name == "$not":
            yield from _wrong_conditions(path, operand)
        if name == "$elemMatch":
            yield "looks for elements of $elemMatch in lists of lists too"


def _wrong_order(operand: Any) -> Iterator[str]:
    if operand is None:
        yield "finds nothing that is at least, or at most, null"
    if isinstance(operand, Decimal128):
        yield "mistakes decimals"
    if operand != operand:
        yield "finds no NaN"


def _wrong_equality(value: Any, nested: bool) -> Iterator[str]:
    if isinstance(value, bool | int | float) and value in (0, 1):
        yield "takes true for 1 and false for 0"
    if isinstance(value, list | Mapping):
        yield "compares lists and objects wrongly"
    if isinstance(value, Decimal128):
        yield "mistakes decimals"
    if value is None and nested:
        yield "looks for null in arrays wrongly"


def _has_decimal(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_has_decimal, value.values()))
    return any(map(_has_decimal, value)) if isinstance(value, list) else isinstance(value, Decimal128)
