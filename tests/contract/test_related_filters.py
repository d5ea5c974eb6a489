"""Related records: contacts by what they did, how often, and what they never did; by joins that keep to the org."""

from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from google.protobuf.json_format import MessageToDict

from audience_service.domain.core.context import Deadline
from audience_service.domain.filters import Filter, FilterCompiler
from audience_service.mongo.query import join_prefetch as join_prefetch
from audience_service.mongo.query import joins
from audience_service.mongo.query.pipeline import build_pipeline
from tests.conftest import Service
from tests.support.client import Client, Refusal


def related(count: Any = None, **changes: Any) -> dict[str, Any]:
    relation: dict[str, Any] = {"datatype": "order", "on": {"local": "pk", "foreign": "contactId"}, **changes}
    return {"$related": relation if count is None else {**relation, "count": count}}


@pytest.fixture(params=["looked up", "read"], autouse=True)
def join_mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Related records are read before the filter, which does not depend on how many there are here, or looked up."""
    timeout = join_prefetch.NO_TIMEOUT if request.param == "read" else 0.0
    monkeypatch.setattr(join_prefetch.JoinPrefetcher, "prefetch_timeout", lambda *_: timeout)


@pytest.fixture
def ids(real_service: Service) -> tuple[Client, list[str]]:
    """Five contacts, of whom the first has four orders (one deleted besides), the next two three, the others none."""
    org = f"related{next(real_service.names)}"
    contacts: list[dict[str, Any]] = [
        {"data": {"n": n, "mail": f"{n}@x", "alias": [f"a{n}", f"b{n}"]}} for n in range(5)
    ]
    ids = real_service.insert(org, contacts)
    orders: list[dict[str, Any]] = [
        {"data": {"contactId": ids[n % 3], "total": n, "at": f"2026-03-{n + 10}T00:00:00.000Z"}} for n in range(10)
    ]
    orders[0]["data"]["items"] = [{"sku": "x"}, {"sku": "y"}]
    unrelated_orders: list[dict[str, Any]] = [
        {"state": "deleted", "data": {"contactId": ids[0], "total": 99}},
        {"data": {"total": 5}},
    ]
    unrelated_orders += [{"data": {"contactId": None}}]
    real_service.insert(org, [*orders, *unrelated_orders], "order")
    real_service.insert(org, [{"data": {"email": "1@x", "status": "unsubscribed", "about": "b3"}}], "subscriber")
    # The same ids in an org whose name begins alike: none of its orders counts.
    others: list[dict[str, Any]] = [{"id": f"o{n}", "data": {"contactId": ids[3], "total": 7}} for n in range(5)]
    real_service.insert(f"{org}2", others, "order")
    return real_service.client(org), ids


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (related(), [0, 1, 2]),
        (related({"$gte": 1}), [0, 1, 2]),
        (related({"$gte": 4}), [0]),
        (related({"$gt": 3}), [0]),
        (related({"$lt": 4}), [1, 2, 3, 4]),
        (related({"$lte": 3, "$gte": 1}), [1, 2]),
        (related({"$eq": 3}), [1, 2]),
        (related(3), [1, 2]),
        (related(0), [3, 4]),
        (related({"$gte": 0}), [0, 1, 2, 3, 4]),
        (related({"$gt": 3, "$lt": 3}), []),
        (related({"$lt": 0}), []),
        (related({"$gte": 5}), []),
        ({"$nor": [related()]}, [3, 4]),
        ({"$nor": [related({"$gte": 4})], "n": {"$lt": 3}}, [1, 2]),
        ({"$or": [related({"$gte": 4}), {"n": 4}]}, [0, 4]),
        ({"$or": [related({"$gte": 4}), related(0), {"n": 2}]}, [0, 2, 3, 4]),
        ({"$and": [related({"$gte": 3}), related({"$gte": 1}, where={"total": {"$gte": 8}})]}, [0, 2]),
        (related(where={"total": {"$gte": 8}}), [0, 2]),
        (related({"$gte": 2}, where={"total": {"$gte": 4}}), [0, 1, 2]),
        (related({"$gte": 2}, where={"total": {"$gte": 5}}), [0, 2]),
        (related(where={"at": {"$lt": "2026-03-11"}}), [0]),
        (related(where={"items": {"$elemMatch": {"sku": "y"}}}), [0]),
        (related(where={"$expr": {"$gt": [{"$multiply": ["$total", 2]}, 17]}}), [0]),
        (related(where={"$or": [{"total": 1}, {"total": 2}]}), [1, 2]),
        (related(0, where={"total": 1}), [0, 2, 3, 4]),
        (related(where={"state": "deleted"}), [0]),
        (related(where={"state": {"$exists": False}, "total": 99}), []),
        (related(datatype="subscriber", on={"local": "mail", "foreign": "email"}), [1]),
        (related(datatype="subscriber", on={"local": "mail", "foreign": "email"}, where={"status": "bounced"}), []),
        (related(datatype="subscriber", on={"local": "alias", "foreign": "about"}), [3]),
        (related(on={"local": "nothing", "foreign": "contactId"}), []),
        (related(0, on={"local": "nothing", "foreign": "contactId"}), [0, 1, 2, 3, 4]),
        (related(on={"local": "data.n", "foreign": "data.total"}), [0, 1, 2, 3, 4]),
    ],
)
def test_contacts_are_found_by_their_related_records(
    ids: tuple[Client, list[str]], where: dict[str, Any], expected: list[int]
) -> None:
    client, contacts = ids
    written = {"datatype": "contact", "where": where}
    members = client.members(filter=written)
    assert sorted(contacts.index(member) for member in members) == expected
    assert client.count(filter=written) == len(expected)


def test_relations_combine_with_audiences(ids: tuple[Client, list[str]]) -> None:
    client, contacts = ids
    listed = client.create(name="listed", type="static", contactIds=contacts[2:])
    buyers = client.create(name="buyers", filter={"datatype": "contact", "where": related({"$gte": 3})})
    where = {"$or": [{"$and": [{"$inAudience": listed.id}, related(0)]}, {"$nor": [{"$inAudience": buyers.id}]}]}
    found = client.members(filter={"datatype": "contact", "where": where})
    assert sorted(contacts.index(member) for member in found) == [3, 4]
    source = {"audienceId": buyers.id}
    static_copy = client.call("CreateSegment", {"segment": {"name": "frozen", "type": "static"}, "source": source})
    assert static_copy.contact_count == 3


def test_a_segment_stores_a_relation_unchanged(ids: tuple[Client, list[str]]) -> None:
    client, _ = ids
    where = related({"$gte": 2, "$lte": 3}, where={"total": {"$gte": 1}, "at": {"$gte": "2026-03-01"}})
    made = client.create(name="kept", filter={"datatype": "contact", "where": where})
    assert client.call("GetSegment", {"id": made.id}).filter.WhichOneof("conditions") == "where"
    assert client.count(audienceId=made.id) == 3


def test_a_relation_is_answered_or_refused_on_every_store(
    service: Service, client: Client, insert: Callable[..., list[str]]
) -> None:
    [contact] = insert([{"data": {}}])
    insert([{"data": {"contactId": contact}}], "order")
    try:
        assert client.count(filter={"datatype": "contact", "where": related()}) == 1
    except Exception as error:
        assert service.kind == "embedded"
        assert Refusal(error).info.reason == "UNSUPPORTED_BY_STORE"


@pytest.mark.parametrize(
    ("relation", "field_path", "reason"),
    [
        ([], "$related", "INVALID_FILTER"),
        ({"datatype": "order"}, "$related.on", "INVALID_FILTER"),
        ({"on": {}}, "$related.datatype", "INVALID_FILTER"),
        (related(datatype="contact")["$related"], "$related.datatype", "DATATYPE_NOT_ALLOWED"),
        (related(datatype="segment")["$related"], "$related.datatype", "DATATYPE_NOT_ALLOWED"),
        (related(datatype="audience_member")["$related"], "$related.datatype", "DATATYPE_NOT_ALLOWED"),
        (related(datatype=1)["$related"], "$related.datatype", "INVALID_FILTER"),
        (related(on={"local": "pk"})["$related"], "$related.on", "INVALID_FILTER"),
        (related(on={"local": "$pk", "foreign": "a"})["$related"], "$related.on.local", "INVALID_FILTER"),
        (related(on={"local": "pk", "foreign": 1})["$related"], "$related.on.foreign", "INVALID_FILTER"),
        (related(where=[])["$related"], "$related.where", "INVALID_FILTER"),
        (related(where={"$where": "1"})["$related"], "$related.where.$where", "INVALID_FILTER"),
        (related(where={"a": {"$gt": "yesterday"}})["$related"], "$related.where.a.$gt", "INVALID_FILTER"),
        (related(where=related())["$related"], "$related.where.$related", "INVALID_FILTER"),
        (
            related(last={"by": "at", "where": {"$inAudience": "segment-x"}})["$related"],
            "$related.last.where.$inAudience",
            "INVALID_FILTER",
        ),
        (related({"$ne": 3})["$related"], "$related.count", "INVALID_FILTER"),
        (related({})["$related"], "$related.count", "INVALID_FILTER"),
        (related({"$gte": -1})["$related"], "$related.count.$gte", "INVALID_FILTER"),
        (related({"$gte": 1.5})["$related"], "$related.count.$gte", "INVALID_FILTER"),
        (related({"$gte": 1_001})["$related"], "$related.count.$gte", "INVALID_FILTER"),
        (related({"$gte": True})["$related"], "$related.count.$gte", "INVALID_FILTER"),
        (related(pipeline=[])["$related"], "$related.pipeline", "INVALID_FILTER"),
    ],
)
def test_a_malformed_relation_is_refused_with_its_field_path(
    client: Client, refused: Any, relation: Any, field_path: str, reason: str
) -> None:
    refusal = refused(lambda: client.count(filter={"datatype": "contact", "where": {"$related": relation}}))
    assert (refusal.info.reason, refusal.fields) == (reason, [f"filter.where.{field_path}"])


def test_a_refused_datatype_names_the_setting_that_allows_it(client: Client, refused: Any) -> None:
    refusal = refused(lambda: client.count(filter={"datatype": "contact", "where": related(datatype="invoice")}))
    assert "AUDIENCE_RELATED_DATATYPES" in refusal.descriptions[0]


def test_eight_relations_are_answered(ids: tuple[Client, list[str]]) -> None:
    client, contacts = ids
    where = {"$and": [related({"$gte": 1}, where={"total": {"$lt": 10 + n}}) for n in range(8)]}
    assert client.members(filter={"datatype": "contact", "where": where}) == sorted(contacts[:3])


def test_more_than_eight_relations_are_refused(client: Client, refused: Any) -> None:
    where = {"$or": [related({"$gte": n}) for n in range(1, 10)]}
    refusal = refused(lambda: client.count(filter={"datatype": "contact", "where": where}))
    assert (refusal.info.reason, refusal.fields) == ("FILTER_TOO_LARGE", ["filter.where.$or[8].$related"])


@pytest.mark.parametrize("operator", ["$related", "$inAudience", "$expr"])
def test_record_operators_are_refused_inside_an_element(client: Client, refused: Any, operator: str) -> None:
    where: dict[str, Any] = {"address": {"$elemMatch": {"$or": [{operator: {}}]}}}
    refusal = refused(lambda: client.count(filter={"datatype": "contact", "where": where}))
    assert refusal.fields == [f"filter.where.address.$elemMatch.$or[0].{operator}"]


def test_a_record_without_the_local_value_has_no_related_records(real_service: Service) -> None:
    org = f"related{next(real_service.names)}x"
    values: list[dict[str, Any]] = [{}, {"sku": None}, {"sku": []}, {"sku": [None]}, {"sku": [None, "A"]}, {"sku": "A"}]
    ids = real_service.insert(org, [{"data": value} for value in values])
    orders: list[dict[str, Any]] = [{}, {"items": [{"qty": 2}]}, {"items": [{"sku": None}]}, {"items": [{"sku": "A"}]}]
    real_service.insert(org, [{"data": order} for order in orders], "order")
    client, on = real_service.client(org), {"local": "sku", "foreign": "items.sku"}
    for count, expected in (({"$gte": 1}, [4, 5]), (0, [0, 1, 2, 3])):
        found = client.members(filter={"datatype": "contact", "where": related(count, on=on)})
        assert sorted(ids.index(member) for member in found) == expected


@pytest.mark.parametrize(
    ("bounds", "admits_zero"),
    [
        ({"$gt": 0}, False),
        ({"$gt": -1}, True),
        ({"$gte": 0}, True),
        ({"$gte": 1}, False),
        (0, True),
        ({"$lt": 1}, True),
    ],
)
def test_a_sum_without_numbers_is_not_zero(real_service: Service, bounds: Any, *, admits_zero: bool) -> None:
    """It meets no bound, but orNone admits it, and a sum without any record. Its explanation has null."""
    org = f"related{next(real_service.names)}x"
    text, zero, nothing = real_service.insert(org, [{}, {}, {}])
    orders = [{"contactId": text, "total": "x"}, {"contactId": zero, "total": 0}]
    real_service.insert(org, [{"data": order} for order in orders], "order")
    client = real_service.client(org)

    def found(**options: bool) -> list[str]:
        where = related(having={"sum": {"total": bounds}, **options})
        return client.members(filter={"datatype": "contact", "where": where})

    admitted = [zero] if admits_zero else []
    assert found() == admitted
    assert found(orNone=True) == sorted([text, nothing, *admitted])
    where = related(having={"sum": {"total": bounds}})
    explained = client.call("ExplainMembership", {"contactId": text, "filter": {"datatype": "contact", "where": where}})
    [seen] = [each.value for each in explained.condition.conditions if each.field_path.endswith("$related")]
    assert MessageToDict(seen)["sum"] == {"total": None}


@pytest.mark.parametrize(
    "relation",
    [
        related({"$gte": 1}),
        related({"$gte": 4}),
        related({"$lte": 3}),
        related({"$lte": 3, "$gte": 1}),
        related(0),
        related(having={"sum": {"total": {"$gt": 12}}}),
        related(having={"sum": {"total": {"$lt": 13}}, "orNone": True}),
        related(last={"by": "at", "where": {"total": {"$gte": 8}}}),
        related(at="at", then={"where": {"total": {"$gte": 7}}}),
    ],
)
@pytest.mark.parametrize("max_parts", [1, 1_000])
def test_more_values_than_fit_a_command_are_counted_in_parts_or_by_one_group(
    ids: tuple[Client, list[str]],
    real_service: Service,
    monkeypatch: pytest.MonkeyPatch,
    relation: dict[str, Any],
    max_parts: int,
) -> None:
    """The count is that of the members, whose related records are looked up. Further conditions hold as well."""
    monkeypatch.setattr(join_prefetch.JoinPrefetcher, "prefetch_timeout", lambda *_: join_prefetch.NO_TIMEOUT)
    client, org = ids[0], dict(ids[0].metadata)["orgid"]
    for where in (relation, {**relation, "n": {"$in": [1, 2, 4]}}):
        written = {"datatype": "contact", "where": where}
        expected = client.members(filter=written)
        with monkeypatch.context() as patch:
            patch.setattr(joins, "MAX_INLINE_BYTES", 10)
            compiled = FilterCompiler(["contact"], ["order"]).compile(Filter("contact", where))
            scope, deadline = real_service.store.scope, Deadline.after(60)
            patch.setattr(join_prefetch, "MAX_PARTS", max_parts)
            pipeline = build_pipeline(real_service.store.database, scope, org, compiled, deadline, for_count=True)
            commands = list(pipeline.counts_in_parts())
            assert not any("$lookup" in stage for stages in commands for stage in stages)
            assert any("$unionWith" in stage for stages in commands for stage in stages) == (max_parts == 1)
            assert client.members(filter=written) == expected
            assert client.count(filter=written) == len(expected)


def test_an_audience_without_an_equal_one_has_no_members(
    ids: tuple[Client, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal filters share their nodes, so the relation is both a condition and excluded. Its values fit no command."""
    monkeypatch.setattr(join_prefetch.JoinPrefetcher, "prefetch_timeout", lambda *_: join_prefetch.NO_TIMEOUT)
    monkeypatch.setattr(joins, "MAX_INLINE_BYTES", 10)
    client, written = ids[0], {"datatype": "contact", "where": related({"$gte": 1})}
    [one, copy] = [client.create(name=name, filter=written).id for name in ("one", "copy")]
    everybody = {"datatype": "contact", "where": {}}
    for selection, excluded in (
        ({"audienceId": one}, [one]),
        ({"audienceId": one}, [copy]),
        ({"filter": written}, [copy]),
        ({"filter": everybody}, [one, copy]),
    ):
        members = client.members(**selection, excludeAudienceIds=excluded)
        assert client.count(**selection, excludeAudienceIds=excluded) == len(members)
        assert (len(members) == 0) == ("audienceId" in selection or selection["filter"] is written)


@pytest.mark.parametrize("name", ["where", "last", "then"])
def test_dates_of_related_records_are_in_their_own_timezones(real_service: Service, name: str) -> None:
    """Orders of today, where they were made: at the same instant it is today in one timezone, and not in the other."""
    org, now = f"zones{next(real_service.names)}", datetime.now(UTC)
    midnights = {
        zone: datetime.combine(now.astimezone(ZoneInfo(zone)).date(), time(), ZoneInfo(zone))
        for zone in ("Pacific/Kiritimati", "America/New_York")
    }
    early, late = sorted(midnights, key=lambda zone: midnights[zone].timestamp())
    contacts = real_service.insert(org, [{}, {}])
    orders: list[dict[str, Any]] = [
        {"data": {"contactId": contact, "at": at, "zone": zone}}
        for contact, zone in zip(contacts, (early, late), strict=True)
        for at in (midnights[early] - timedelta(days=9), midnights[early])
    ]
    real_service.insert(org, orders, "order")
    today = {"at": {"$gte": {"$dateTrunc": {"date": "$$NOW", "unit": "day", "timezone": "$zone"}}}}
    arguments: dict[str, dict[str, Any]] = {
        "where": {"where": today},
        "last": {"last": {"by": "at", "where": today}},
        "then": {"at": "at", "then": {"where": today}},
    }
    written = {"datatype": "contact", "where": related(**arguments[name])}
    assert real_service.client(org).members(filter=written) == contacts[:1]
