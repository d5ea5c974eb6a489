"""Filters that people really write: their members, their warnings in every answer, and the advice of refusals.

Each case of tests/data/filter_cases.json has records by id, a filter, and what the service answers.
"""

import json
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
DATATYPES = ("contact", "order", "subscriber")


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
def test_a_refused_case_names_what_to_write_instead(client: Client, refused: Any, case: dict[str, Any]) -> None:
    refusal = refused(lambda: client.count(filter=case_filter(case)))
    assert refusal.info.reason == "INVALID_FILTER"
    assert case["refused"] in refusal.descriptions[0]
