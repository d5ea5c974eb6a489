"""Warnings in answers, and that what they claim of a filter holds on every store."""

import itertools
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from bson import json_util

from audience_service.domain.core.errors import InvalidFilter
from audience_service.domain.filters import Filter, FilterCompiler
from audience_service.domain.filters.compiler import to_match
from audience_service.domain.filters.lint.lint import lint_filter
from tests.conftest import Service, envelope
from tests.support.client import Client, Refusal

DATA = Path(__file__).parent.parent / "data"
_OPTIONS = json_util.JSONOptions(tz_aware=True)
_DENIES_OR_CHOOSES = re.compile(r"\$(or|nor|not|related)\b")


def _tautologies() -> Iterator[tuple[dict[str, Any], str]]:
    """The filters that always match, or never."""
    for where, expected in json.loads((DATA / "warnings.json").read_text()):
        for field_path, reason in expected:
            parts = _DENIES_OR_CHOOSES.findall(field_path)
            if not reason.startswith("ALWAYS"):
                continue
            if (reason == "ALWAYS_FALSE" and not parts) or (parts and field_path == f"where_json.${parts[0]}"):
                yield where, reason


TAUTOLOGIES = list(_tautologies())


@pytest.fixture(scope="module")
def records(service: Service) -> Iterator[Client]:
    """A client of an org that holds the awkward records."""
    loaded = json_util.loads((DATA / "records.json").read_text(), json_options=_OPTIONS)
    service.insert("claims", [{"id": name, **record} for name, record in loaded.items()])
    yield service.client("claims")
    service.store.database["contact"].delete_many({"sk": {"$regex": "^claims/"}})


@pytest.mark.parametrize(("where", "reason"), TAUTOLOGIES, ids=[json.dumps(where) for where, _ in TAUTOLOGIES])
def test_tautology_warnings_are_true(service: Service, records: Client, where: dict[str, Any], reason: str) -> None:
    total = records.count(filter={"datatype": "contact", "where": {}})
    try:
        found = records.count(filter={"datatype": "contact", "whereJson": json.dumps(where)})
    except grpc.RpcError as error:
        assert service.kind == "embedded"
        assert Refusal(error).info.reason == "UNSUPPORTED_BY_STORE"
        return
    assert found == (total if reason == "ALWAYS_TRUE" else 0)


OPERATORS: list[dict[str, Any]] = [
    *({name: value} for name in ("$eq", "$ne", "$gt", "$gte", "$lt") for value in (None, 1, 5, True, "2026-03-25")),
    *({name: values} for name in ("$in", "$nin", "$all") for values in ([], [1], [1, None], ["a", "2026-03-25"])),
    *({"$exists": there} for there in (True, False)),
    *({"$not": {name: 1}} for name in ("$eq", "$ne", "$gte", "$size")),
    {"$type": "null"}, {"$size": 0}, {"$regex": "^a"}, {"$mod": [2, -2]}, {"$bitsAnySet": 0},
    {"$elemMatch": {"$gte": 1}}, {"$elemMatch": {"b": 1}}, {"$lt": ""}, {"$gt": True},
]  # fmt: skip
VALUES: list[Any] = [None, 1, 5, True, False, "", "a", "2026-03-25", datetime(2026, 3, 25, tzinfo=UTC), {"b": 1}, {}]
EDGE_CASES = [*VALUES, *([value] for value in VALUES), *([a, b] for a in VALUES for b in VALUES), [], [[]], [[1, 5]]]


@pytest.mark.parametrize("path", ["a", "a.b", "a.0", "a in an element"])
def test_no_satisfiable_pair_is_reported_as_contradictory(real_service: Service, path: str) -> None:
    compiler = FilterCompiler(["contact"])
    collection = real_service.store.database["awkward"]
    collection.insert_many([{"data": data} for data in ({}, *({"a": value} for value in EDGE_CASES))])
    warning_count = 0
    for one, other in itertools.combinations(OPERATORS, 2):
        pair: dict[str, Any] = {"$and": [{path: one}, {path: other}]}
        if path == "a in an element":
            if "$elemMatch" in one or set(one) & set(other):
                continue
            pair = {"a": {"$elemMatch": {**one, **other}}}
        try:
            node = compiler.parse(Filter("contact", pair))
        except InvalidFilter:
            continue
        found = lint_filter(node, datetime.now(UTC), datatype="contact")
        if any(warning.reason == "ALWAYS_FALSE" and "$not" not in warning.field_path for warning in found):
            warning_count += 1
            assert collection.find_one(to_match(node)) is None, pair
    collection.drop()
    assert warning_count > 100


def test_single_segment_responses_contain_warnings_and_lists_do_not(client: Client) -> None:
    day = f"{datetime.now(UTC) - timedelta(days=30):%Y-%m-%d}"
    fixed_filter = {"datatype": "contact", "where": {"openedAt": {"$gte": day}}}
    fine = {"datatype": "contact", "where": {"vip": True}}
    made = client.create(name="openers", filter=fixed_filter)
    [warning] = made.warnings
    assert (warning.field_path, warning.reason) == ("filter.where.openedAt.$gte", "FROZEN_WINDOW")
    assert '{"$dateSubtract": {"startDate": "$$NOW", "unit": "day", "amount": 30}}' in warning.description
    assert client.call("GetSegment", {"id": made.id}).warnings == made.warnings
    checked = client.call("CreateSegment", {"segment": {"name": "x", "filter": fixed_filter}, "validateOnly": True})
    assert checked.warnings == made.warnings
    [listed] = client.call("ListSegments").segments
    assert list(listed.warnings) == []
    changed = client.call("UpdateSegment", {"segment": {"id": made.id, "name": "openers", "filter": fine}})
    assert list(changed.warnings) == []
    update = {"segment": {"id": made.id, "name": "openers", "filter": fixed_filter}, "validateOnly": True}
    assert client.call("UpdateSegment", update).warnings == made.warnings


def test_a_static_segment_has_no_warnings(client: Client) -> None:
    fixed_filter = {"datatype": "contact", "where": {"tags": {"$in": []}}}
    assert list(client.create(name="nobody", type="static", filter=fixed_filter).warnings) == []


def test_a_saved_filter_that_cannot_be_run_is_shown_without_warnings(
    client: Client, service: Service, org: str
) -> None:
    data = {"filter": {"datatype": "contact", "where": {"a": {"$gone": 1}, "b": {"$in": []}}}, "type": "dynamic"}
    record = envelope(org, {"id": "old", "name": "old", "state": "active", "data": data}, "segment")
    service.store.database["segment"].insert_one(record)
    assert list(client.call("GetSegment", {"id": record["pk"]}).warnings) == []
