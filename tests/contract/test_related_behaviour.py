"""Relations with a test (`having`, `last`, `then`): an oracle in plain Python agrees with every answer."""

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import Decimal128, Int64, json_util
from google.protobuf.json_format import MessageToDict
from pymongo.errors import OperationFailure

from audience_service.mongo.core.errors import map_driver_errors
from audience_service.mongo.query import join_prefetch
from tests.conftest import Service
from tests.support import oracles
from tests.support import related_oracle as oracle
from tests.support.client import Client
from tests.support.examples import PROFILE
from tests.support.oracles import oracle_size

FACTOR = 6 if PROFILE == "explore" else 1
ORDERS, FILTERS = oracle_size(90 * FACTOR, 40 * FACTOR)
CONTACTS = max(30, ORDERS // 30)
MAILS = ["a", "b", "c", *(f"m{number}" for number in range(CONTACTS - 30))]
NUMBERS: list[Any] = [0, 1, 3, -2, 2.5, 0.25, Int64(2**40), Decimal128("0.5"), Decimal128("-1.25")]
DATES: list[Any] = [
    datetime(2026, 3, 25, tzinfo=UTC), datetime(2026, 4, 1, 12, tzinfo=UTC), "2026-03-25", "2026-03-26T00:00:00Z",
    "2026-04-01T12:00:00.000Z", "2026-02-28T23:59:59.999+00:00",
]  # fmt: skip
OTHERS: list[Any] = [
    None,
    True,
    False,
    "12",
    "x",
    "",
    float("nan"),
    Decimal128("NaN"),
    {"a": 1},
    "2026-02-30",
    [],
    [[7]],
]
ON = {"local": "pk", "foreign": "buyer"}
LONG = {"amount": 1_000, "unit": "day"}
"""A window that is not over."""


@dataclass
class World:
    """An org's contacts and orders, and a client of it."""

    client: Client
    contacts: list[dict[str, Any]]
    records: oracle.Records

    def expected(self, relation: dict[str, Any]) -> list[str]:
        return sorted(each["pk"] for each in self.contacts if self.matches(each, relation))

    def matches(self, contact: dict[str, Any], relation: dict[str, Any]) -> bool:
        return oracle.matches(contact, relation, self.records, datetime.now(UTC))

    def members(self, relation: dict[str, Any]) -> list[str]:
        """The members of a filter, which must be as many as the estimate."""
        written = {"datatype": "contact", "whereJson": json_util.dumps({"$related": relation})}
        found = sorted(self.client.members(filter=written))
        assert self.client.count(filter=written) == len(found)
        return found


def value(rng: random.Random, choices: list[Any]) -> Any:
    if rng.random() < 0.15:
        return [value(rng, choices) for _ in range(rng.randrange(3))]
    return rng.choice(OTHERS if rng.random() < 0.2 else choices)


@pytest.fixture(scope="module")
def world(real_service: Service) -> World:
    """Contacts with up to some ten orders, whose values are of all kinds. Some orders have several buyers, or none."""
    rng, org = random.Random(24), "behaviour"
    ids = real_service.insert(
        org,
        [
            {"data": {"mail": rng.choice(["a", "b", ["a", "c"], None, *MAILS[3:]]), "joined": value(rng, DATES)}}
            for _ in range(CONTACTS)
        ],
    )
    orders = []
    for _ in range(ORDERS):
        buyer = rng.choice(ids[5:])
        data = {
            "buyer": rng.choice([buyer, buyer, buyer, [buyer, rng.choice(ids)], [buyer, buyer], None]),
            "mail": rng.choice(MAILS),
            "total": value(rng, NUMBERS),
            "at": value(rng, DATES),
            "mixed": value(rng, NUMBERS + DATES),
            "meta": {"at": rng.choice(DATES)},
            "status": rng.choice(["paid", "refunded"]),
            "items": [{"sku": value(rng, ["x", "y", 1, 1.0]), "price": value(rng, NUMBERS)} for _ in range(2)],
        }
        orders.append(
            {"data": data, "createdate": rng.choice(DATES[:2]), **({"state": "archived"} if rng.random() < 0.1 else {})}
        )
    visits = [
        {
            "createdate": rng.choice(DATES[:2]) + timedelta(hours=rng.choice((0, 0, 1, 48))),
            "data": {"buyer": rng.choice([*ids[5:], None]), "at": value(rng, DATES), "status": "paid"},
        }
        for _ in range(ORDERS // 2)
    ]
    for name, records in (("order", orders), ("event", visits)):
        for foreign in ("buyer", "mail"):
            real_service.store.database[name].create_index([(f"data.{foreign}", 1), ("sk", 1)])
        real_service.insert(org, records, name)
        real_service.insert(f"{org}2", records, name)
    found = {name: list(real_service.store.database[name].find({"sk": {"$gte": f"{org}/", "$lt": f"{org}0"}}))
             for name in ("contact", "order", "event")}  # fmt: skip
    return World(real_service.client(org), found["contact"], found)


def having(rng: random.Random) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(rng.choice((1, 1, 2))):
        function = rng.choice(("sum", "avg", "min", "max", "distinct"))
        path = rng.choice(("total", "mixed", "items.price", "items.sku", "at", "createdate"))
        bound: Any = rng.choice((0, 1, 2, 2.5, -1, Decimal128("0.5")))
        if function in ("min", "max") and path in ("mixed", "at"):
            bound = rng.choice(DATES)
        operators = rng.choice((["$gt"], ["$gte"], ["$lt"], ["$lte"], ["$eq"], ["$gte", "$lt"]))
        found.setdefault(function, {})[path] = dict.fromkeys(operators, bound)
    if rng.random() < 0.4:
        found["orNone"] = rng.random() < 0.7
    return found


def edge(rng: random.Random) -> dict[str, Any]:
    size = rng.choice((1, 1, 2, 3, 5))
    found: dict[str, Any] = {"by": rng.choice(("at", "at", "createdate", "meta.at", "mixed")), "n": size}
    if rng.random() < 0.8:
        found["where"] = (
            since_joining(rng)
            if rng.random() < 0.2
            else rng.choice(({"status": "paid"}, {"mail": "a", "status": "refunded"}, {"items.sku": "x"}))
        )
    if rng.random() < 0.6:
        found["count"] = rng.choice(({"$gte": size}, 0, {"$lte": 1}, 1, {"$gte": 1, "$lte": size}))
    return found


def second_step(rng: random.Random) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if rng.random() < 0.4:
        found |= {"datatype": "event", "on": ON, "at": rng.choice(("at", "createdate"))}
    elif rng.random() < 0.5:
        found["at"] = rng.choice(("at", "createdate"))
    if rng.random() < 0.3:
        found["where"] = rng.choice(({"status": "paid"}, since_joining(rng)))
    if rng.random() < 0.6:
        found["within"] = rng.choice(
            ({"amount": 7, "unit": "day"}, {"amount": 36, "unit": "hour"}, {"amount": 1, "unit": "day"}, LONG)
        )
    if rng.random() < 0.7:
        found["count"] = rng.choice((0, 0, 1, {"$gte": 2}, {"$gte": 1, "$lte": 2}, {"$lte": 1}))
    return found


def since_joining(rng: random.Random) -> dict[str, Any]:
    start, unit = "$$record.joined", rng.choice(("day", "hour"))
    shift = {rng.choice(("$dateAdd", "$dateSubtract")): {"startDate": start, "unit": unit, "amount": 7}}
    bounds = rng.choice(
        ({"$gte": start}, {"$gt": start}, {"$eq": start}, {"$lt": shift}, {"$gt": start, "$lte": shift})
    )
    return {rng.choice(("at", "createdate", "meta.at", "mixed")): bounds}


def relation(rng: random.Random) -> dict[str, Any]:
    made: dict[str, Any] = {"datatype": "order", "on": ON}
    if rng.random() < 0.3:
        made["on"] = {"local": "mail", "foreign": "mail"}
    if rng.random() < 0.5:
        made["where"] = rng.choice(({"status": "paid"}, {"status": "paid"}, since_joining(rng)))
    chance = rng.random()
    if chance < 0.3:
        return {**made, rng.choice(("last", "first")): edge(rng)}
    if chance < 0.6:
        return {**made, "at": rng.choice(("at", "createdate", "meta.at")), "then": second_step(rng)}
    made["having"] = having(rng)
    if rng.random() < 0.3:
        made["count"] = rng.choice(({"$gte": 1}, {"$gte": 2}, {"$gte": 1, "$lte": 3}, 2))
    return made


@pytest.fixture(params=["looked up", "read"])
def join_mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    timeout = join_prefetch.NO_TIMEOUT if request.param == "read" else 0.0
    monkeypatch.setattr(join_prefetch.JoinPrefetcher, "prefetch_timeout", lambda *_: timeout)
    return str(request.param)


@pytest.mark.slow
@pytest.mark.timeout(oracles.TIMEOUT * FACTOR)
def test_reach_and_stream_agree_with_an_oracle(world: World, join_mode: str) -> None:
    rng = random.Random(7 if PROFILE == "ci" else None)
    sizes = set()
    for _ in range(FILTERS):
        tried = relation(rng)
        expected = world.expected(tried)
        assert world.members(tried) == expected, json_util.dumps(tried)
        sizes.add(len(expected))
    assert len(sizes) > 8, "the filters have members of all numbers"


@pytest.mark.slow
@pytest.mark.timeout(oracles.TIMEOUT * FACTOR)
def test_check_and_explanation_agree_with_an_oracle(world: World) -> None:
    rng = random.Random(11)
    tried = [relation(rng) for _ in range(FILTERS * 3 // 8)]
    ids = [contact["pk"] for contact in world.contacts]
    for number, each in enumerate(tried):
        written = {"datatype": "contact", "whereJson": json_util.dumps({"$related": each})}
        audience = world.client.create(name=f"audience {number}", filter=written)
        answer = world.client.call("CheckMembership", {"audienceIds": [audience.id], "contactIds": ids})
        found = sorted(result.contact_id for result in answer.memberships if result.audience_ids)
        assert found == world.expected(each), each
        contact = rng.choice(world.contacts)
        explained = world.client.call("ExplainMembership", {"contactId": contact["pk"], "filter": written})
        assert explained.member == world.matches(contact, each)
        [condition] = [inner for inner in explained.condition.conditions if inner.field_path.endswith("$related")]
        related, seen = oracle.related_records(contact, each, world.records), MessageToDict(condition.value)
        name = next((name for name in ("last", "first") if name in each), "")
        if name:
            assert len(seen["records"]) == len(oracle.take(related, name, each[name]))
        elif "then" in each:
            later = [number for _, number, _ in oracle.sequence(contact, each, world.records)]
            assert (seen["count"], sorted(record["then"] for record in seen["records"])) == (len(later), sorted(later))
        else:
            assert seen["count"] == len(related)
            for function, bounds_by_path in each.get("having", {}).items():
                for path, bounds in bounds_by_path.items() if function != "orNone" else ():
                    values = [value for record in related for value in oracle.values_at(record, path)]
                    assert shows(seen[function][path], oracle.aggregate(function, values, bounds)), each


def shows(seen: Any, value: Any) -> bool:
    """Whether an explanation has an aggregate: a number that may be rounded, or a date as text or as stored."""
    if value is None or isinstance(value, datetime):
        return bool((seen is None) == (value is None))
    return float(seen["$numberDecimal"] if isinstance(seen, dict) else seen) == pytest.approx(float(value))


@pytest.mark.parametrize("code", [146, 292, 10334])
def test_a_value_with_too_many_records_for_a_group_is_looked_up(
    world: World, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """MongoDB limits the memory of a group's arrays, and the size of a document."""
    refusals: list[int] = []

    def read_values(*_: object) -> None:
        refusals.append(code)
        with map_driver_errors():
            raise OperationFailure("PlanExecutor error during aggregation", code)

    monkeypatch.setattr(join_prefetch.JoinPrefetcher, "prefetch_timeout", lambda *_: join_prefetch.NO_TIMEOUT)
    monkeypatch.setattr(join_prefetch.JoinPrefetcher, "_read_values", read_values)
    tried = {"datatype": "order", "on": ON, "at": "createdate", "then": {"where": {"status": "paid"}}}
    assert world.members(tried) == world.expected(tried) != []
    assert refusals


@pytest.mark.parametrize("second_date", ["createdate", "at"])
def test_an_explanation_counts_what_followed_each_of_many_records(real_service: Service, second_date: str) -> None:
    """The last of them, also if they are of both steps, or at the same time."""
    rng, org = random.Random(5), f"followed{next(real_service.names)}"
    [contact] = real_service.insert(org, [{}])
    start = datetime(2026, 3, 1, tzinfo=UTC)
    orders = [
        {
            "createdate": start + timedelta(minutes=rng.randrange(600)),
            "data": {"buyer": contact, "at": start + timedelta(minutes=rng.randrange(600)), "status": status},
        }
        for status in rng.choices(["paid", "refunded"], k=600)
    ]
    real_service.insert(org, orders, "order")
    scope = {"sk": {"$gte": f"{org}/", "$lt": f"{org}0"}}
    records = {"order": list(real_service.store.database["order"].find(scope))}
    for within in ({}, {"within": {"amount": 1, "unit": "hour"}}):
        then = {"at": second_date, "where": {"status": "paid"}, **within}
        relation = {"datatype": "order", "on": ON, "at": "createdate", "then": then}
        written = {"datatype": "contact", "whereJson": json_util.dumps({"$related": relation})}
        explained = real_service.client(org).call("ExplainMembership", {"contactId": contact, "filter": written})
        [condition] = [each for each in explained.condition.conditions if each.field_path.endswith("$related")]
        seen = MessageToDict(condition.value)
        found = oracle.sequence({"pk": contact}, relation, records)
        last = sorted(found, key=lambda each: (each[0]["createdate"], each[0]["sk"]), reverse=True)[:100]
        assert seen["count"] == len(found) == 600
        assert [each["then"] for each in seen["records"]] == [number for _, number, _ in last]
