"""What ExplainMembership promises, on every store."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from audience_service.rpc.converters import membership as membership_converter
from tests.conftest import Service
from tests.support.client import Client, Refusal

Insert = Callable[..., list[str]]
Refused = Callable[..., Refusal]
IN_USE = ("", "state is none of archived, deleted", True)


def contacts(where: dict[str, Any]) -> dict[str, Any]:
    return {"datatype": "contact", "where": where}


def tree(condition: Any) -> Any:
    """A condition as its place, words and truth, with those inside it, if any."""
    summary = (condition.field_path, condition.description, condition.matched)
    return (*summary, [tree(inner) for inner in condition.conditions]) if condition.conditions else summary


def walk(condition: Any) -> Iterator[Any]:
    yield condition
    for inner in condition.conditions:
        yield from walk(inner)


def explain(client: Client, contact_id: str, where: dict[str, Any] | None = None, audience_id: str = "") -> Any:
    exact = {"datatype": "contact", "whereJson": json.dumps(where)}  # keeps the order of keys
    population = {"audienceId": audience_id} if where is None else {"filter": exact}
    return client.call("ExplainMembership", {"contactId": contact_id, **population})


def test_a_key_with_a_dollar_is_read_next_to_others(client: Client, insert: Insert) -> None:
    """A projection cannot name it."""
    [ann] = insert([{"data": {"$browser": "Firefox", "country": "US"}}])
    answer = explain(client, ann, {"data.$browser": "Firefox", "country": "FR"})
    assert [(inner.description, inner.matched) for inner in answer.condition.conditions[:2]] == [
        ("data.$browser is Firefox", True),
        ("country is FR", False),
    ]


def test_every_condition_has_field_path_description_and_result(client: Client, insert: Insert) -> None:
    [ann] = insert([{"data": {"country": "US", "score": 40, "tags": ["vip", "new"]}}])
    where = {
        "country": "US",
        "$or": [{"score": {"$gte": 50, "$lt": 90}}, {"tags": {"$not": {"$in": ["lead"]}}}],
        "$nor": [{"tags": "vip"}],
    }
    answer = explain(client, ann, where)
    score = "score is at least 50 and score is less than 90"
    either = f"({score}) or tags is not one of lead"
    assert tree(answer.condition) == (
        "filter.where_json",
        f"country is US and ({either}) and tags is not vip and state is none of archived, deleted",
        False,
        [
            ("filter.where_json.country", "country is US", True),
            (
                "filter.where_json.$or",
                either,
                True,
                [
                    (
                        "filter.where_json.$or[0]",
                        score,
                        False,
                        [
                            ("filter.where_json.$or[0].score.$gte", "score is at least 50", False),
                            ("filter.where_json.$or[0].score.$lt", "score is less than 90", True),
                        ],
                    ),
                    (
                        "filter.where_json.$or[1].tags.$not",
                        "tags is not one of lead",
                        True,
                        [("filter.where_json.$or[1].tags.$not.$in", "tags is one of lead", False)],
                    ),
                ],
            ),
            (
                "filter.where_json.$nor",
                "tags is not vip",
                False,
                [("filter.where_json.$nor[0].tags", "tags is vip", True)],
            ),
            IN_USE,
        ],
    )
    assert not answer.member
    assert not answer.next_change_unknown
    assert answer.read_time.seconds
    assert not any(inner.HasField("next_change_time") or inner.error for inner in walk(answer.condition))


def test_condition_values_are_encoded_as_stream_fields(client: Client, insert: Insert) -> None:
    record = {"at": datetime(2026, 1, 2, tzinfo=UTC), "address": [{"city": "Lyon"}, {"city": "Nice"}], "none": None}
    [ann] = insert([{"name": "Ann", "data": record}])
    where = {name: {"$ne": "x"} for name in ("at", "address.city", "none", "data.name", "name", "missing")}
    conditions = explain(client, ann, where).condition.conditions
    assert {c.path: MessageToDict(c)["value"] for c in conditions if c.HasField("value")} == {
        "at": "2026-01-02T00:00:00.000Z",
        "address.city": ["Lyon", "Nice"],
        "none": None,
        "name": "Ann",
    }
    assert [c.path for c in conditions if not c.HasField("value")] == ["data.name", "missing", "state"]


def test_a_path_with_a_list_index_returns_the_element(real_service: Service) -> None:
    [ann] = real_service.insert("places", [{"data": {"a": [{"b": 1}, {"b": 2}], "c": {"0": "x"}}}])
    where = {"a.1.b": 2, "c.0": "x", "a.5.b": {"$exists": False}}
    conditions = explain(real_service.client("places"), ann, where).condition.conditions
    assert [(c.path, MessageToDict(c).get("value"), c.matched) for c in conditions[:3]] == [
        ("a.1.b", 2, True),
        ("c.0", "x", True),
        ("a.5.b", [], True),
    ]


@pytest.mark.parametrize("state", ["archived", "deleted", "active"])
def test_the_guard_on_records_in_use_is_a_condition_of_its_own(client: Client, insert: Insert, state: str) -> None:
    [ann] = insert([{"state": state, "data": {"n": 5}}])
    guard = (*IN_USE[:2], state == "active")
    description = "n is 5 and state is none of archived, deleted"
    answer = explain(client, ann, {"n": 5})
    assert tree(answer.condition) == (
        "filter.where_json",
        description,
        guard[2],
        [("filter.where_json.n", "n is 5", True), guard],
    )
    assert (answer.condition.conditions[1].path, answer.condition.conditions[1].value.string_value) == ("state", state)
    assert tree(explain(client, ann, {}).condition) == ("filter.where_json", IN_USE[1], guard[2], [guard])
    named = tree(explain(client, ann, {"state": "archived"}).condition)
    assert named == ("filter.where_json.state", "state is archived", state == "archived")


def test_a_referenced_audience_is_explained_by_its_conditions(client: Client, insert: Insert) -> None:
    ann, bob = insert([{"data": {"n": 5}}, {"data": {"n": 6}}])
    inner = client.create(name="Ones", filter=contacts({"n": 5})).id
    listed = client.create(name="Listed", type="static", contactIds=[bob]).id
    where = {"$or": [{"$inAudience": inner}, {"$inAudience": listed}]}
    outer = client.create(name="outer", filter=contacts(where)).id
    first, second = "filter.where.$or[0].$inAudience", "filter.where.$or[1].$inAudience"
    [either, guard] = tree(explain(client, ann, audience_id=outer).condition)[3]
    assert guard == IN_USE
    assert either[3] == [
        (first, "is in the audience 'Ones'", True, [(f"{first}.filter.where.n", "n is 5", True), IN_USE]),
        (
            second,
            "is in the audience 'Listed'",
            False,
            [(second, "is on the list of the audience 'Listed'", False), IN_USE],
        ),
    ]
    assert explain(client, bob, audience_id=outer).member
    stated = client.create(name="Stated", filter=contacts({"state": None})).id
    [condition, _] = explain(client, ann, {"$inAudience": stated}).condition.conditions
    field_path = "filter.where_json.$inAudience"
    inner_path = f"{field_path}.filter.where.state"
    assert tree(condition) == (
        field_path,
        "is in the audience 'Stated'",
        True,
        [(inner_path, "state is null or missing", True)],
    )
    on_list = tree(explain(client, bob, audience_id=listed).condition)
    description = "is on the list of the audience 'Listed'"
    assert on_list == (
        "audience_id",
        f"{description} and state is none of archived, deleted",
        True,
        [("audience_id", description, True), IN_USE],
    )


def test_related_records_are_evaluated_by_the_database(real_service: Service) -> None:
    client = real_service.client("relatives")
    ids = real_service.insert("relatives", [{}, {}])
    real_service.insert("relatives", [{"data": {"contactId": ids[0]}}], "order")
    buys = {"$related": {"datatype": "order", "on": {"local": "pk", "foreign": "contactId"}}}
    for contact_id, buyer in zip(ids, (True, False), strict=True):
        answer = explain(client, contact_id, {"$nor": [buys]})
        assert answer.member is not buyer
        [condition] = answer.condition.conditions[0].conditions
        assert (condition.field_path, condition.description, condition.matched) == (
            "filter.where_json.$nor[0].$related",
            "has at least 1 order record",
            buyer,
        )


def test_a_failing_expression_is_reported_and_does_not_decide(real_service: Service, refused: Refused) -> None:
    client = real_service.client("guards")
    [ann] = real_service.insert("guards", [{"data": {"n": "four"}}])
    half = {"$expr": {"$eq": [{"$divide": ["$n", 2]}, 2]}}
    answer = explain(client, ann, {"$or": [{"n": "four"}, half]})
    [text, expression] = answer.condition.conditions[0].conditions
    assert (answer.member, text.matched, text.error, expression.matched) == (True, True, "", False)
    assert "fails on the record" in expression.error
    assert (expression.path, expression.value.string_value) == ("n", "four")
    refusal = refused(lambda: explain(client, ann, half))
    assert (refusal.info.reason, refusal.fields) == ("EXPRESSION_FAILED", ["filter.where_json"])


def test_an_unexplainable_request_is_refused(
    service: Service, client: Client, insert: Insert, refused: Refused, org: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    [ann], [lead] = insert([{"data": {"n": 1}}]), insert([{}], "lead")
    theirs = service.client(f"{org}2").create(name="theirs", filter=contacts({})).id
    strangers = ["contact-nobody", lead, *service.insert(f"{org}2", [{}])]
    for reason, field, request in (
        ("INVALID_FIELD", "contact_id", {"filter": contacts({})}),
        ("INVALID_FIELD", "filter", {"contactId": ann}),
        ("INVALID_FILTER", "filter.where.n.$where", {"contactId": ann, "filter": contacts({"n": {"$where": "1"}})}),
        ("AUDIENCE_NOT_FOUND", "", {"contactId": ann, "audienceId": theirs}),
        *(("CONTACT_NOT_FOUND", "contact_id", {"contactId": name, "filter": contacts({})}) for name in strangers),
    ):
        refusal = refused(lambda request=request: client.call("ExplainMembership", request))
        assert (refusal.info.reason, "".join(refusal.fields)) == (reason, field)
    monkeypatch.setattr(membership_converter, "MAX_EXPLANATION_BYTES", 100)
    refusal = refused(lambda: explain(client, ann, {"n": 5}))
    assert (refusal.info.reason, refusal.fields) == ("FILTER_TOO_LARGE", ["filter.where_json"])


def test_a_deep_condition_on_a_deep_value_can_be_read_by_clients(client: Client, insert: Insert) -> None:
    value: Any = "bottom"
    for _ in range(60):
        value = {"level": [value]}
    [ann] = insert([{"data": {"deep": value}}])
    where: dict[str, Any] = {"deep": {"$ne": "x"}}
    for turn in range(28):
        where = {("$or", "$nor")[turn % 2]: [where, {"deep": "y"}]}
    answer = explain(client, ann, where)
    conditions = [condition for condition in walk(answer.condition) if condition.description == "deep is not x"]
    assert [condition.matched for condition in conditions] == [True]
    assert "bottom" in str(conditions[0].value)
