"""ExplainFilter on a real engine; the embedded store has no plans and leaves them out."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from audience_service.mongo.embedded.store import embedded_store
from audience_service.sample_data import sample_contacts
from tests.conftest import Service, run_service
from tests.support.client import Client, Refusal

COUNT = 3_000


@pytest.fixture(scope="module")
def contacts(real_service: Service) -> Client:
    """An org of sample contacts next to another org."""
    org = f"explain{next(real_service.names)}"
    real_service.store.insert(list(sample_contacts(org, COUNT)))
    real_service.store.insert(list(sample_contacts(f"{org}2", 500)))
    return real_service.client(org)


def explain(client: Client, where: Any = None, **request: Any) -> Any:
    selection = {} if where is None else {"filter": {"datatype": "contact", "where": where}}
    return client.call("ExplainFilter", {**selection, **request})


def test_execution_stats_match_the_count(contacts: Client) -> None:
    where = {"country": "JP", "score": {"$gte": 80}}
    answer = explain(contacts, where)
    figures = answer.plan
    assert figures.matched_count == contacts.count(filter={"datatype": "contact", "where": where}) > 0
    assert figures.documents_examined >= COUNT
    assert figures.documents_examined_per_match == figures.documents_examined / figures.matched_count
    assert (answer.plan.kind, answer.plan.index, answer.plan.join_count) == (2, "", 0)
    written = '{"country": "JP", "$and": [{"address.city": "Tokyo"}, {"country": {"$ne": "US"}}], "data.name": null}'
    answer = contacts.call("ExplainFilter", {"filter": {"datatype": "contact", "whereJson": written}, "analyze": False})
    assert list(answer.fields) == ["country", "address.city", "data.name"]


def test_an_index_is_advised_in_the_platforms_form(contacts: Client) -> None:
    advice = explain(contacts, {"tags": "vip", "score": {"$gte": 80}}).index_advice
    assert (advice.datatype, advice.useful, advice.index.unique) == ("contact", True, False)
    assert list(advice.index.fields) == ["data.tags", "data.score", "sk"]
    assert f"{COUNT:,}" in advice.reason or "the query examines" in advice.reason


@pytest.mark.parametrize(
    "where",
    [
        {"country": "US"},
        {"score": {"$gte": 5}},
        {"leadStage": {"$ne": "customer"}},
        {"email": {"$regex": "example"}},
        {},
    ],
)
def test_broad_or_unindexable_filters_are_reported(contacts: Client, where: Any) -> None:
    advice = explain(contacts, where).index_advice
    assert not advice.useful
    assert advice.reason


def test_records_by_id_are_served_by_an_index(contacts: Client) -> None:
    one = contacts.members(filter={"datatype": "contact", "where": {"country": "JP"}})[0]
    answer = explain(contacts, {"pk": one})
    assert (answer.plan.kind, answer.plan.index) == (1, "pk_1_sk_1")
    assert answer.plan.documents_examined <= 1 == answer.plan.matched_count
    assert not answer.index_advice.useful
    assert "pk_1_sk_1" in answer.index_advice.reason


def test_an_advised_index_narrows(real_service: Service) -> None:
    org = f"advised{next(real_service.names)}"
    contacts = list(sample_contacts(org, 20_000))
    for contact in contacts:
        contact["data"]["rare"] = contact["data"].pop("score")
    real_service.store.insert(contacts)
    client = real_service.client(org)
    where = {"rare": 97}
    advice = explain(client, where).index_advice
    assert (list(advice.index.fields), advice.useful) == (["data.rare", "sk"], True)
    collection = real_service.store.database["contact"]
    name = collection.create_index([(field, 1) for field in advice.index.fields])
    try:
        after = explain(client, where)
        assert (after.plan.kind, after.plan.index) == (1, name)
        assert after.plan.documents_examined_per_match < 2
        assert not after.index_advice.useful
    finally:
        collection.drop_index(name)


def test_a_plan_that_is_not_run_has_no_figures(contacts: Client) -> None:
    answer = explain(contacts, {"country": "JP", "score": {"$gte": 80}}, analyze=False)
    assert answer.plan.kind == 2
    assert not any(answer.plan.HasField(name) for name in ("matched_count", "documents_examined", "milliseconds"))
    assert answer.index_advice.useful


def test_joins_are_counted_and_their_index_is_advised(real_service: Service) -> None:
    org = f"joined{next(real_service.names)}"
    ids = real_service.insert(org, [{"data": {"country": "JP"}} for _ in range(20)])
    real_service.insert(org, [{"data": {"contactId": found, "paidAt": "2026-03-25"}} for found in ids[:2]], "order")
    client = real_service.client(org)
    relation = {"datatype": "order", "on": {"local": "pk", "foreign": "contactId"}}
    where = {"country": "JP", "$related": relation}
    answer = explain(client, where)
    assert (answer.plan.join_count, answer.plan.matched_count) == (0, 2), (
        "without an index they are read once and joined by nothing"
    )
    assert sorted(answer.fields) == ["country", "pk"]
    advice = answer.index_advice
    assert (advice.datatype, list(advice.index.fields), advice.useful) == ("order", ["data.contactId", "sk"], True)
    collection = real_service.store.database["order"]
    name = collection.create_index([(field, 1) for field in advice.index.fields])
    try:
        answer = explain(client, where)
        assert (answer.plan.join_count, answer.plan.matched_count) == (1, 2)
        assert answer.index_advice.datatype == "contact"
        sequence = {**relation, "at": "paidAt", "then": {"count": 0}}
        answer = explain(client, {**where, "$and": [{"$related": sequence}, {"$related": {**relation, "count": 1}}]})
        assert (answer.plan.join_count, answer.plan.matched_count) == (4, 2), "the matches, not the 20 candidates"
    finally:
        collection.drop_index(name)


def test_the_cost_of_a_lookup_for_each_record_is_stated(real_service: Service) -> None:
    org = f"lookups{next(real_service.names)}"
    real_service.insert(org, [{"data": {"country": "JP"}} for _ in range(3)] + [{"data": {}}])
    on = {"local": "pk", "foreign": "contactId"}
    relation = {"datatype": "order", "on": on, "where": {"createdate": {"$gte": "$$record.createdate"}}}
    written = {"datatype": "contact", "where": {"country": "JP", "$related": relation}}
    [warning] = [
        found
        for found in real_service.client(org).call("ExplainFilter", {"filter": written, "analyze": True}).warnings
        if found.reason == "LOOKUP_PER_RECORD"
    ]
    assert warning.field_path == "filter.where.$related"
    assert "looked up for each of 3 contacts" in warning.description


def test_audiences_are_explained_saved_or_inside_a_filter(contacts: Client) -> None:
    japan = {"datatype": "contact", "where": {"country": "JP"}}
    dynamic = contacts.create(name="Japan", filter=japan)
    answer = explain(contacts, audienceId=dynamic.id)
    assert list(answer.fields) == ["country"]
    assert answer.plan.matched_count == contacts.count(audienceId=dynamic.id)
    answer = explain(contacts, {"$inAudience": dynamic.id, "score": {"$gte": 80}})
    assert sorted(answer.fields) == ["country", "score"]
    assert list(answer.index_advice.index.fields) == ["data.country", "data.score", "sk"]
    request = {"segment": {"name": "Japan, frozen", "type": "static", "filter": japan}}
    static = contacts.call("CreateSegment", request)
    answer = explain(contacts, audienceId=static.id)
    assert answer.plan.matched_count == static.contact_count
    assert not answer.index_advice.useful
    answer = explain(contacts, {"$inAudience": static.id, "score": {"$gte": 80}})
    assert answer.plan.matched_count == contacts.count(
        filter={"datatype": "contact", "where": {"$inAudience": static.id, "score": {"$gte": 80}}}
    )


def test_errors_match_those_of_a_count(contacts: Client, refused: Callable[..., Refusal]) -> None:
    assert refused(lambda: explain(contacts)).fields == ["filter"]
    assert refused(lambda: explain(contacts, {"a": {"$near": 1}})).fields == ["filter.where.a.$near"]
    assert refused(lambda: explain(contacts, audienceId="segment-x")).info.reason == "AUDIENCE_NOT_FOUND"
    assert refused(lambda: explain(contacts, {"$expr": {"$divide": [1, 0]}})).info.reason == "EXPRESSION_FAILED"


def test_an_org_without_records_is_explained(real_service: Service) -> None:
    answer = explain(real_service.client(f"empty{next(real_service.names)}"), {"country": "JP"})
    assert answer.plan.matched_count == 0


def test_the_embedded_store_describes_and_warns_without_a_plan(refused: Callable[..., Refusal]) -> None:
    """It refuses the filters that it cannot count."""
    for service in run_service("embedded", embedded_store(list(sample_contacts("acme", 50)), ("contact",))):
        client = service.client("acme")
        answer = explain(client, {"cuntry": "JP"})
        assert (answer.description, list(answer.fields)) == ("cuntry is JP", ["cuntry"])
        assert [warning.reason for warning in answer.warnings] == ["UNKNOWN_FIELD"]
        assert not answer.HasField("plan")
        assert not answer.HasField("index_advice")
        refusal = refused(partial(explain, client, {"tags": {"$size": 1}}))
        assert refusal.info.reason == "UNSUPPORTED_BY_STORE"


def test_description_and_warnings_reflect_the_filter_and_the_records(contacts: Client) -> None:
    japan = contacts.create(name="All of Japan", filter={"datatype": "contact", "where": {"country": "JP"}})
    answer = explain(contacts, {"$inAudience": japan.id, "coutnry": "US", "score": {"$gt": 5, "$lt": 3}})
    assert "All of Japan" in answer.description
    warned = {(warning.field_path, warning.reason) for warning in answer.warnings}
    assert ("filter.where.coutnry", "UNKNOWN_FIELD") in warned
    assert explain(contacts, audienceId=japan.id).description
    assert not explain(contacts, audienceId=japan.id).warnings
