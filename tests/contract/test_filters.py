"""The meaning of filters on every store: pairs of a filter and its matching records, by MongoDB's manual."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from bson import Decimal128, json_util

from audience_service.domain.filters.expressions import EXPRESSIONS
from audience_service.domain.filters.operators import LOGICAL, OPERATORS
from tests.conftest import Service
from tests.support.client import Client, Refusal

DATA = Path(__file__).parent.parent / "data"
PAIRS = [row for name in ("matches", "expressions") for row in json.loads((DATA / f"{name}.json").read_text())]
REFUSALS = json.loads((DATA / "refusals.json").read_text())
RECORDS = json_util.loads((DATA / "records.json").read_text(), json_options=json_util.JSONOptions(tz_aware=True))


def supported_records(service: Service) -> set[str]:
    """The names of the awkward records that a store takes in: the embedded one takes no decimals."""
    decimal = {name for name, record in RECORDS.items() if isinstance(record["data"].get("value"), Decimal128)}
    return set(RECORDS) - decimal if service.kind == "embedded" else set(RECORDS)


@pytest.fixture(scope="module")
def records(service: Service) -> Iterator[Client]:
    """A client of an org that holds the awkward records."""
    stored = [{"id": name, **record} for name, record in RECORDS.items() if name in supported_records(service)]
    service.insert("pairs", stored)
    yield service.client("pairs")
    service.store.database["contact"].delete_many({"sk": {"$regex": "^pairs/"}})


@pytest.mark.parametrize(("topic", "where", "expected"), PAIRS, ids=[f"{t}-{json.dumps(w)}" for t, w, _ in PAIRS])
def test_a_filter_finds_the_records_that_mongodb_says(
    service: Service, records: Client, topic: str, where: dict[str, Any], expected: list[str]
) -> None:
    written = {"datatype": "contact", "whereJson": json.dumps(where)}
    try:
        found = records.members(filter=written)
    except grpc.RpcError as error:
        # Only the embedded store may refuse, and only for this; none of its answers may be wrong.
        assert service.kind == "embedded"
        assert Refusal(error).info.reason == "UNSUPPORTED_BY_STORE"
        return
    assert found == sorted(f"contact-{name}" for name in supported_records(service) & set(expected))
    assert records.count(filter=written) == len(found)
    # Asked of each record by its id, as a check of membership does, the answer is the same.
    named = {"$and": [where, {"pk": {"$in": [f"contact-{name}" for name in RECORDS]}}]}
    assert records.members(filter={"datatype": "contact", "whereJson": json.dumps(named)}) == found


def test_every_operator_is_tested_on_the_stores() -> None:
    tested = set(re.findall(r'"(\$\w+)": ', json.dumps([where for _, where, _ in PAIRS])))
    named = {*OPERATORS, *LOGICAL, *EXPRESSIONS, "$expr", "$not", "$elemMatch", "$options"}
    assert named - tested == set(), "these have no pair in matches.json or expressions.json"


@pytest.mark.parametrize(("topic", "text", "field_path", "reason"), REFUSALS, ids=[row[0] for row in REFUSALS])
def test_an_invalid_filter_is_refused_with_its_field_path(
    client: Client, refused: Any, topic: str, text: str, field_path: str, reason: str
) -> None:
    refusal = refused(lambda: client.count(filter={"datatype": "contact", "whereJson": text}))
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.info.reason == reason
    assert refusal.fields == [f"filter.{field_path}"]


def test_an_object_and_its_text_mean_the_same(records: Client) -> None:
    where = {"$or": [{"country": "US", "score": {"$gte": 5}}, {"tags": {"$in": ["lead"]}}]}
    as_object = records.members(filter={"datatype": "contact", "where": where})
    as_text = records.members(filter={"datatype": "contact", "whereJson": json.dumps(where)})
    assert as_object == as_text == ["contact-arrays", "contact-other", "contact-plain"]


@pytest.mark.parametrize(
    ("where", "field_path"),
    [
        ({"address": {"city": "Lyon", "zip": 1}}, "filter.where.address"),
        ({"score": 2**53}, "filter.where.score"),
        ({"score": {"$in": [1, -(2.0**60)]}}, "filter.where.score.$in[1]"),
        ({"at": {"$gte": {"$date": "2026-01-01T00:00:00Z"}}}, "filter.where.at.$gte.$date"),
    ],
)
def test_values_that_a_struct_may_have_changed_are_refused(
    client: Client, refused: Any, where: dict[str, Any], field_path: str
) -> None:
    refusal = refused(lambda: client.count(filter={"datatype": "contact", "where": where}))
    assert (refusal.info.reason, refusal.fields) == ("INVALID_FILTER", [field_path])


def test_limit_errors_contain_the_field_path_and_the_limit(client: Client, refused: Any) -> None:
    deep: dict[str, Any] = {"a": 1}
    for _ in range(40):
        deep = {"$and": [deep]}
    wide = {"$or": [{"a": n} for n in range(1_001)]}
    cases: list[tuple[str, str, str]] = [
        (json.dumps(deep), "where_json" + ".$and[0]" * 32, "32"),
        (json.dumps(wide), "where_json.$or", "1000"),
        (json.dumps({"a": {"$in": list(range(10_001))}}), "where_json.a.$in", "10000"),
        (json.dumps({"a": "x" * 1_100_000}), "where_json", str(1024 * 1024)),
        (json.dumps({"a": {"$regex": "x" * 1_001}}), "where_json.a.$regex", "1000"),
        ("[" * 200_000, "where_json", ""),
        ('{"a":' * 200_000, "where_json", ""),
    ]
    for text, field_path, limit in cases:
        refusal = refused(lambda text=text: client.count(filter={"datatype": "contact", "whereJson": text}))
        assert refusal.info.reason == "FILTER_TOO_LARGE", text[:50]
        assert refusal.fields == [f"filter.{field_path}"]
        assert refusal.info.metadata.get("limit", "") == limit


def test_only_the_served_datatypes_can_be_named(client: Client, refused: Any) -> None:
    for datatype in ("order", "segment", "audience_member", "system.users", "Contact", "$cmd"):
        refusal = refused(lambda d=datatype: client.count(filter={"datatype": d, "where": {}}))
        assert (refusal.info.reason, refusal.fields) == ("DATATYPE_NOT_ALLOWED", ["filter.datatype"])
        assert refusal.info.metadata["allowed"] == "contact,lead,customer"


@pytest.mark.slow
def test_a_text_of_very_many_keys_is_read_in_little_time(client: Client, refused: Any) -> None:
    text = "{" + ",".join(f'"{number:x}": 1' for number in range(70_000)) + ', "z": 1, "z": 2}'
    started = time.process_time()
    refusal = refused(lambda: client.count(filter={"datatype": "contact", "whereJson": text}))
    assert refusal.info.reason == "INVALID_FILTER"
    assert time.process_time() - started < 10, "it takes minutes where keys are compared with one another"


@pytest.mark.parametrize("key", ["$" + "a" * 20_000, "a." + "b" * 20_000, "日" * 20_000, "a" * 20_000])
def test_an_error_about_something_huge_still_fits_the_trailers(client: Client, refused: Any, key: str) -> None:
    where: dict[str, Any] = {key: {"$x": 1}}
    for _ in range(12):
        where = {"日" * 80: {"$elemMatch": where}}
    for written in ({key: 1, "$x": 1}, where):
        refusal = refused(lambda w=written: client.count(filter={"datatype": "contact", "whereJson": json.dumps(w)}))
        assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
        assert refusal.info.reason == "INVALID_FILTER"


@pytest.mark.slow
def test_a_filter_that_is_too_large_when_compiled_is_refused(client: Client, refused: Any) -> None:
    bounds = {name: f"2026-01-01T00:00:00.00{i}Z" for i, name in enumerate(("$gt", "$gte", "$lt", "$lte"))}
    where = {"a": {"$elemMatch": {**bounds, "$in": ["x" * 70 + str(number) for number in range(9_900)]}}}
    refusal = refused(lambda: client.count(filter={"datatype": "contact", "whereJson": json.dumps(where)}))
    assert refusal.info.reason == "FILTER_TOO_LARGE"


def test_the_embedded_store_snapshots_nothing_that_it_refuses_to_count(client: Client, service: Service) -> None:
    where = {"datatype": "contact", "where": {"tags": {"$size": 2}}}
    service.insert(client.metadata[1][1], [{"data": {"tags": ["a", "b"]}}])
    try:
        made = client.create(name="frozen", type="static", filter=where)
    except grpc.RpcError as error:
        assert service.kind == "embedded"
        assert Refusal(error).info.reason == "UNSUPPORTED_BY_STORE"
    else:
        assert made.contact_count == 1
