"""Filters that people really write: their members, their warnings in every answer, and the advice of refusals.

Each case of tests/data/filter_cases.json has records by id, a filter, and what the service answers.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from bson import json_util

from tests.conftest import Service
from tests.support.client import Client, Refusal

_OPTIONS = json_util.JSONOptions(tz_aware=True)
TEXT = (Path(__file__).parent.parent / "data" / "filter_cases.json").read_text()
CASES = json.loads(TEXT)
DATATYPES = ("contact", "order", "subscriber", "company")


def case_filter(case: dict[str, Any]) -> dict[str, Any]:
    return {"datatype": "contact", "whereJson": json.dumps(case["where"])}


def insert_records(service: Service, org: str, case: dict[str, Any]) -> None:
    for datatype in DATATYPES:
        records = json_util.loads(json.dumps(case.get(datatype, {})), json_options=_OPTIONS)
        if records:
            service.insert(org, [{"id": key, **record} for key, record in records.items()], datatype)


@pytest.mark.parametrize(
    "case", [case for case in CASES if "members" in case], ids=[c["topic"] for c in CASES if "members" in c]
)
def test_a_case_has_its_members_and_its_warnings_in_every_answer(
    service: Service, client: Client, org: str, case: dict[str, Any]
) -> None:
    """EstimateReach, StreamReach and CreateSegment warn alike, and count what StreamMembers sends."""
    insert_records(service, org, case)
    written = case_filter(case)
    created = client.call("CreateSegment", {"segment": {"name": "case", "filter": written}, "validateOnly": True})
    assert sorted(warning.reason for warning in created.warnings) == sorted(case["warnings"]), created.warnings
    assert case.get("advice", "") in " ".join(warning.description for warning in created.warnings)
    try:
        members = client.members(filter=written)
    except grpc.RpcError as error:
        assert service.kind == "embedded"
        assert Refusal(error).info.reason == "UNSUPPORTED_BY_STORE"
        return
    assert members == sorted(f"contact-{name}" for name in case["members"])
    estimate = client.call("EstimateReach", {"filter": written})
    steps = list(client.call("StreamReach", {"filter": written}))
    assert (estimate.count, steps[-1].count) == (len(members), len(members))
    assert list(estimate.warnings) == list(steps[-1].warnings)
    assert [(w.reason, w.description) for w in estimate.warnings] == [
        (w.reason, w.description) for w in created.warnings
    ]


@pytest.mark.parametrize(
    "case", [case for case in CASES if "refused" in case], ids=[c["topic"] for c in CASES if "refused" in c]
)
def test_a_refused_case_names_what_to_write_instead(
    service: Service, client: Client, org: str, refused: Any, case: dict[str, Any]
) -> None:
    insert_records(service, org, case)
    refusal = refused(lambda: client.count(filter=case_filter(case)))
    assert refusal.info.reason == "INVALID_FILTER"
    assert case["refused"] in refusal.descriptions[0]


@pytest.mark.parametrize(
    ("expression", "described"),
    [
        ({"$gt": [{"$toDouble": "$score"}, 50]}, "toDouble(score) > 50"),
        ({"$eq": [{"$hour": {"date": "$at", "timezone": "$timezone"}}, 9]}, "hour(at, timezone: timezone) = 9"),
    ],
)
def test_a_failing_expression_is_named_with_a_record(
    real_service: Service, refused: Any, expression: dict[str, Any], described: str
) -> None:
    """The error says which expression fails, and on which record, among hundreds that do not."""
    org = f"failing{next(real_service.names)}x"
    at = datetime(2026, 1, 1, 9, tzinfo=UTC)
    good = {"score": "80", "at": at, "timezone": "UTC"}
    records = [{"id": f"{number:04}", "data": good} for number in range(450)]
    records[321]["data"] = {"score": "n/a", "at": at, "timezone": "Pacific Standard Time"}
    real_service.insert(org, records)
    client = real_service.client(org)
    written = {"datatype": "contact", "where": {"$expr": expression}}
    for call in (lambda: client.count(filter=written), lambda: client.members(filter=written)):
        refusal = refused(call)
        assert (refusal.info.reason, refusal.fields) == ("EXPRESSION_FAILED", ["filter.where"])
        assert f"the expression {described} fails on the record contact-0321;" in refusal.descriptions[0]
        assert refusal.info.metadata["record_id"] == "contact-0321"


_SCORE, _RATIO = {"$gt": [{"$toInt": "$score"}, 50]}, {"$gt": [{"$divide": ["$a", "$b"]}, 1]}
_POSITIVE = {"$gt": ["$b", 0]}
_ORDERS = {"datatype": "order", "on": {"local": "pk", "foreign": "contactId"}}


@pytest.mark.parametrize(
    ("where", "record", "described"),
    [
        ({"$or": [{"score": {"$regex": "^[0-9]+$"}, "$expr": _SCORE}, {"$expr": _RATIO}]}, {"score": "n/a"}, "(a / b)"),
        ({"$or": [{"score": "n/a"}, {"$expr": _SCORE}], "$expr": _RATIO}, {"score": "n/a"}, "(a / b)"),
        ({"$nor": [{"b": {"$gt": 0}, "$expr": _RATIO}, {"$expr": _SCORE}]}, {"score": "n/a"}, "toInt(score)"),
        ({"$or": [{"$and": [{"$expr": _POSITIVE}, {"$expr": _RATIO}]}, {"$expr": _SCORE}]}, {"score": "x"}, "toInt"),
        ({"$or": [{"$related": _ORDERS, "$expr": _RATIO}, {"$expr": _SCORE}]}, {"score": "n/a"}, "toInt(score)"),
        ({"$related": {**_ORDERS, "where": {"$expr": {"$lt": [{"$toInt": "$total"}, 9]}}}}, {"n": 1}, "toInt(total)"),
    ],
)  # fmt: skip
def test_a_guarded_expression_is_not_the_one_that_fails(
    real_service: Service, refused: Any, where: dict[str, Any], record: dict[str, Any], described: str
) -> None:
    """The error names an expression that is reached on the record: alternatives, audiences and orders are guards."""
    org = f"guarded{next(real_service.names)}x"
    good = {"score": "80", "a": 3, "b": 1}
    records = [{"id": f"{number:04}", "data": good} for number in range(30)]
    records[21]["data"] = {"a": 3, "b": 0, **record}
    real_service.insert(org, records)
    contact = "contact-0021" if "n" in record else "contact-0003"
    real_service.insert(org, [{"id": "1", "data": {"contactId": contact, "total": "n/a"}}], "order")
    written = {"datatype": "contact", "where": where}
    refusal = refused(lambda: real_service.client(org).members(filter=written))
    assert described in refusal.descriptions[0], refusal.descriptions
    assert refusal.info.metadata["record_id"] == ("" if "n" in record else "contact-0021")
