"""Prefetched related records give the same members as a lookup for each record."""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import Int64, ObjectId, Regex, json_util
from hypothesis import given
from hypothesis import strategies as st

from audience_service.domain.core.context import Deadline
from audience_service.domain.filters import CompiledFilter, Filter, FilterCompiler
from audience_service.domain.filters.ast import Related
from audience_service.mongo.core.scope import TenantScope
from audience_service.mongo.query import join_prefetch as join_prefetch
from audience_service.mongo.query import joins
from audience_service.mongo.query.pipeline import Pipeline, build_pipeline
from tests.conftest import Service
from tests.support.examples import examples

COMPILER = FilterCompiler(["contact"], ["order"])
CONTACTS, ORDERS = 40, 60
PATHS = ("pk", "name", "a", "b.c", "l.c", "d.l.c", "l.0.c")
VALUES: list[Any] = [
    "x", "x", "x", "y", "y", "", "X", "2026-03-25", "2026-03-25T00:00:00.000Z", 1, 1.0, Int64(1), 2.5, 0, -0.0,
    float("nan"), Int64(2**53 + 1), 2.0**53, True, False, datetime(2026, 3, 25, tzinfo=UTC),
    ObjectId("65f000000000000000000001"), None,
]  # fmt: skip
"""Without decimals, which the stand-in for MongoDB tells from other numbers by $in, and not always by $lookup."""
OBJECTS: list[Any] = [*VALUES, {"a": "x"}, {}]
PATTERNS: list[Any] = [*OBJECTS, Regex("^x"), Regex("x"), Regex(".")]
"""With those that an $in would take for something else."""


@dataclass
class Orgs:
    """Orgs of random contacts and orders; in each second one a field of a record never holds several values."""

    service: Service
    names: list[str] = field(default_factory=list)
    reads: int = 0

    def add(self, seed: int, values: list[Any], order_values: list[Any], *, lists: bool) -> None:
        rng, name = random.Random(seed), f"alike{next(self.service.names)}x"
        self.names.append(name)
        contacts = [_record(rng, values, lists=lists) for _ in range(CONTACTS)]
        ids = self.service.insert(name, [{**made, "name": rng.choice(("x", "y", "z"))} for made in contacts])
        orders = [_record(rng, [*order_values, *ids[:5]], lists=rng.random() < 0.5) for _ in range(ORDERS)]
        orders += [{"data": {"a": ids[n % 7], "total": n % 4}} for n in range(30)]
        self.service.insert(name, [{**made, "name": rng.choice(("x", "y", ids[0]))} for made in orders], "order")
        # The same in an org whose name begins alike.
        self.service.insert(f"{name}2", [{**made, "id": f"{name}-{n}"} for n, made in enumerate(orders)], "order")

    def members(self, org: str, population: CompiledFilter, *, force_lookup: bool) -> set[str]:
        """The members' sks, their related records looked up if they are few."""
        database, deadline = self.service.store.database, Deadline.after(60)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(join_prefetch.JoinPrefetcher, "prefetch_timeout", lambda *_: join_prefetch.NO_TIMEOUT)
            pipeline = build_pipeline(database, TenantScope(), org, population, deadline, force_lookup=force_lookup)
        self.reads += pipeline.joins.has_prefetched
        assert not (force_lookup and pipeline.joins.has_prefetched)
        return {found["sk"] for found in database["contact"].aggregate(pipeline.stages())}


def _record(rng: random.Random, values: list[Any], *, lists: bool) -> dict[str, Any]:
    def value(depth: int = 2) -> Any:
        if lists and depth and rng.random() < 0.4:
            return [value(depth - 1) for _ in range(rng.randrange(4))]
        return rng.choice(values)

    def inner() -> Any:
        return {"c": value()} if rng.random() < 0.9 else rng.choice([{}, value(0), [{"c": value()}]])

    many = 4 if lists else 2
    data: dict[str, Any] = {"a": value(), "b": inner(), "total": rng.randrange(5)}
    data["l"] = [inner() for _ in range(rng.randrange(many))]
    data["d"] = [{"l": [inner() for _ in range(rng.randrange(many))]} for _ in range(rng.randrange(many))]
    return {"data": {name: found for name, found in data.items() if rng.random() < 0.9}}


@pytest.fixture(scope="module")
def orgs(real_service: Service) -> Iterator[Orgs]:
    """Orgs of values that an $in matches as $lookup does, and one of other values."""
    made = Orgs(real_service)
    for seed in range(6):
        made.add(seed, VALUES, VALUES, lists=seed % 2 == 0)
    made.add(6, OBJECTS, PATTERNS, lists=True)
    orders = real_service.store.database["order"]
    indexes = [orders.create_index([(f"data.{path}", 1), ("sk", 1)]) for path in ("a", "b.c", "l.c", "d.l.c")]
    yield made
    for index in indexes:
        orders.drop_index(index)
    assert made.reads > 50, "many are read, or nothing has been compared"


counts = st.sampled_from(
    [{"$gte": 1}, {"$gte": 2}, {"$gte": 4}, 0, 1, 3, {"$lte": 1}, {"$lte": 3}, {"$gte": 2, "$lte": 3}]
)
queries = st.sampled_from([{}, {}, {"total": {"$gte": 2}}, {"total": 7}, {"state": "deleted"}])


@pytest.mark.timeout(300)
@examples(120)
@given(
    number=st.integers(0, 6),
    local=st.sampled_from(PATHS),
    foreign=st.sampled_from(PATHS),
    count=counts,
    query=queries,
    negated=st.booleans(),
)
def test_prefetched_values_match_what_lookups_match(
    orgs: Orgs, number: int, local: str, foreign: str, count: Any, query: dict[str, Any], negated: bool
) -> None:
    org = orgs.names[number]
    relation = {"datatype": "order", "on": {"local": local, "foreign": foreign}, "where": query, "count": count}
    where: dict[str, Any] = {"$related": relation}
    population = COMPILER.compile(Filter("contact", {"$nor": [where]} if negated else where))
    assert orgs.members(org, population, force_lookup=False) == orgs.members(org, population, force_lookup=True)


@dataclass
class Shop:
    """An org whose first contact has two orders, the second one, the third none."""

    service: Service
    org: str

    def pipeline(self, relation: dict[str, Any]) -> Pipeline:
        """That of a filter on orders."""
        on = {"local": "pk", "foreign": "buyer"}
        where = {"$related": {"datatype": "order", "on": on, **relation}}
        population = COMPILER.compile(Filter("contact", where))
        return build_pipeline(self.service.store.database, TenantScope(), self.org, population, Deadline.after(60))

    def members(self, relation: dict[str, Any], *, is_prefetched: bool) -> list[int]:
        """The members of a filter by number, whose orders must have been read before it, or not."""
        pipeline = self.pipeline(relation)
        assert pipeline.joins.has_prefetched == is_prefetched
        assert any("$lookup" in stage for stage in pipeline.stages()) != is_prefetched
        found = self.service.store.database["contact"].aggregate(pipeline.stages(ordered=True))
        return [int(record["sk"].rpartition("/")[2]) for record in found]


@pytest.fixture
def shop(real_service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """For which two contacts are few, and three are not."""
    org = f"shop{next(real_service.names)}x"
    first, second, _ = real_service.insert(org, [{"id": f"{n}", "data": {"n": n}} for n in range(3)])
    buyers = (first, [first, first], [second, second], "contact-nobody")
    real_service.insert(org, [{"data": {"buyer": buyer, "total": n}} for n, buyer in enumerate(buyers)], "order")
    monkeypatch.setattr(join_prefetch, "MIN_PREFETCH_CANDIDATES", 2)
    monkeypatch.setattr(join_prefetch, "LOOKUP_SECONDS", 30.0)  # no read times out, however busy the machine
    orders = real_service.store.database["order"]
    index = orders.create_index([("data.buyer", 1), ("sk", 1)])
    yield Shop(real_service, org)
    orders.drop_index(index)


def test_few_candidates_use_lookups_and_many_use_prefetching(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shop.members({}, is_prefetched=True) == [0, 1]
    monkeypatch.setattr(join_prefetch, "MIN_PREFETCH_CANDIDATES", 3)
    assert shop.members({}, is_prefetched=False) == [0, 1]
    shop.service.store.database["order"].drop_index("data.buyer_1_sk_1")
    assert shop.members({}, is_prefetched=True) == [0, 1], "a lookup without an index would read all of them too"
    shop.service.store.database["order"].create_index([("data.buyer", 1), ("sk", 1)])


def test_a_related_record_that_names_a_value_twice_counts_once(shop: Shop) -> None:
    assert shop.members({"count": {"$gte": 2}}, is_prefetched=True) == [0]
    assert shop.members({"count": 1}, is_prefetched=True) == [1]


def test_groups_are_merged_only_if_a_related_record_has_several_values(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Merging takes a second group, which most relations do not need."""
    merged: list[Related] = []

    def merge(scope: TenantScope, org: str, related: Related) -> list[dict[str, Any]]:
        merged.append(related)
        return stages(scope, org, related)

    stages = join_prefetch.merged_value_stages
    monkeypatch.setattr(join_prefetch, "merged_value_stages", merge)
    assert shop.members({"where": {"total": 0}, "count": {"$gte": 1}}, is_prefetched=True) == [0]
    assert not merged
    assert shop.members({"where": {"total": {"$lte": 1}}, "count": {"$gte": 2}}, is_prefetched=True) == [0]
    assert len(merged) == 1


def test_values_that_do_not_fit_the_filter_are_looked_up(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joins, "MAX_INLINE_BYTES", 60)
    assert shop.members({}, is_prefetched=False) == [0, 1]


def test_prefetching_stops_once_lookups_would_be_faster(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(join_prefetch, "LOOKUP_SECONDS", 1e-9)
    assert shop.members({}, is_prefetched=False) == [0, 1]


def test_prefetching_a_sequence_may_take_as_long_as_both_of_its_lookups(shop: Shop) -> None:
    relation = {"datatype": "order", "on": {"local": "pk", "foreign": "buyer"}}
    sequence = {**relation, "at": "createdate", "then": {}}
    database, match = shop.service.store.database, TenantScope().match(shop.org, {})
    candidates = join_prefetch.Candidates("contact", "contact", match)
    prefetcher = join_prefetch.JoinPrefetcher(database, TenantScope(), shop.org, candidates, Deadline.after(60))
    nodes = [COMPILER.compile(Filter("contact", {"$related": found})).joins for found in (relation, sequence)]
    one, both = (prefetcher.prefetch_timeout(node) for node in nodes if isinstance(node, Related))
    assert (one, both) == (3 * 30.0, 2 * 3 * 30.0)


def test_lookups_of_the_last_related_records_use_the_index(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that computes dates first would read all related records for each candidate."""
    monkeypatch.setattr(join_prefetch, "MIN_PREFETCH_CANDIDATES", 3)
    shop.service.insert(shop.org, [{"data": {"buyer": f"contact-{n}"}} for n in range(1_000)], "order")
    stages = shop.pipeline({"last": {"by": "createdate", "where": {"total": 1}}}).stages()
    command = {"aggregate": "contact", "pipeline": stages, "cursor": {}}
    plan = shop.service.store.database.command("explain", command, verbosity="executionStats")
    assert "data.buyer_1_sk_1" in json_util.dumps(plan)


def test_no_lookup_computes_the_results_of_earlier_ones_again(shop: Shop) -> None:
    """Without a stage between them, an engine computes these for each record that the next lookup reads."""
    relation = {"datatype": "order", "on": {"local": "pk", "foreign": "buyer"}}
    sequence = {**relation, "at": "createdate", "then": {"where": {"total": 1}}}
    filters = [{"$related": found} for found in (sequence, relation, {**relation, "count": 0})]
    population, database = COMPILER.compile(Filter("contact", {"$and": filters})), shop.service.store.database
    deadline = Deadline.after(60)
    stages = build_pipeline(database, TenantScope(), shop.org, population, deadline, force_lookup=True).stages()
    lookups = [number for number, stage in enumerate(stages) if "$lookup" in stage]
    assert len(lookups) == 4
    assert [number for number, stage in enumerate(stages) if "$unwind" in stage] == [n - 1 for n in lookups[1:]]


def test_a_failing_expression_falls_back_to_lookups(shop: Shop) -> None:
    """Which are at the candidates' related records: where an index leads to these, others' fail no call."""
    shop.service.insert(shop.org, [{"data": {"buyer": "contact-none", "total": "many"}}], "order")
    pipeline = shop.pipeline({"where": {"$expr": {"$gt": [{"$add": ["$total", 1]}, 1]}}})
    assert not pipeline.joins.has_prefetched


def test_values_beyond_the_index_limit_are_still_matched(shop: Shop) -> None:
    values = join_prefetch.JoinValues(["contact-0"], index_limit=1)
    assert values.condition("pk") == {"pk": {"$in": ["contact-0"]}}
    for index_limit in (0, 1):
        match = join_prefetch.JoinValues(["contact-1"], index_limit=index_limit).condition("pk")
        where = {"$and": [match], "sk": {"$regex": f"^{shop.org}/"}}
        assert [found["pk"] for found in shop.service.store.database["contact"].find(where)] == ["contact-1"]


@pytest.mark.parametrize("is_excluded", [False, True])
def test_a_text_matches_one_part_if_it_matches_all_values(shop: Shop, *, is_excluded: bool) -> None:
    """Also texts before, between and after the values, in parts of one value or of several."""
    texts = ["a", "b", "bb", "c", "é", "\U0001f600"]
    contacts = shop.service.store.database["contact"]
    shop.service.insert(shop.org, [{"id": text} for text in texts])
    scope = {"sk": {"$regex": f"^{shop.org}/"}}
    for values in itertools.chain.from_iterable(itertools.combinations(texts, size) for size in (1, 2, 5)):
        whole = join_prefetch.JoinValues([7, *values], is_excluded=is_excluded)
        for max_bytes in (1, 40):
            parts = whole.parts(max_bytes)
            found = [each["pk"] for part in parts for each in contacts.find({**part.condition("pk"), **scope})]
            assert sorted(found) == sorted(each["pk"] for each in contacts.find({**whole.condition("pk"), **scope}))


def test_values_that_exceed_a_command_are_counted_in_each_range(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joins, "MAX_INLINE_BYTES", 60)
    relation = {"datatype": "order", "on": {"local": "pk", "foreign": "buyer"}, "count": {"$gte": 1}}
    population = COMPILER.compile(Filter("contact", {"$related": relation}))
    slices, deadline = shop.service.store.slices, Deadline.after(60)
    prefetched = slices.with_prefetched_joins(shop.org, population, deadline)
    shop.service.store.database["order"].delete_many({"sk": {"$regex": f"^{shop.org}/"}})
    middle = f"{shop.org}/contact/1"
    counts = [slices.count_range(shop.org, prefetched, *ends, deadline) for ends in (("", middle), (middle, ""))]
    assert sum(counts) == slices.count_range(shop.org, prefetched, "", "", deadline) == 2


def test_a_prefetched_filter_needs_no_lookup(shop: Shop) -> None:
    relation = {"datatype": "order", "on": {"local": "pk", "foreign": "buyer"}, "count": 0}
    population = COMPILER.compile(Filter("contact", {"$related": relation}))
    slices, deadline = shop.service.store.slices, Deadline.after(60)
    prefetched = slices.with_prefetched_joins(shop.org, population, deadline)
    shop.service.store.database["order"].delete_many({"sk": {"$regex": f"^{shop.org}/"}})
    assert slices.count_range(shop.org, prefetched, "", "", deadline) == 1
    assert slices.count_range(shop.org, population, "", "", deadline) == 3
    all_contacts = COMPILER.compile(Filter("contact", {}))
    assert slices.with_prefetched_joins(shop.org, all_contacts, deadline) is all_contacts
