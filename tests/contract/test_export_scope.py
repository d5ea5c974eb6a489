"""The scope `audiences.export`: values of records need it, ids and counts do not."""

from collections.abc import Callable

import grpc
import pytest

from tests.conftest import Service
from tests.support.client import Client, Refusal

FILTER = {"datatype": "contact", "where": {"data.email": "ann@example.com"}}


@pytest.fixture
def reader(service: Service, org: str) -> Client:
    """A client of the role that reviews audiences, in an org with one contact."""
    service.insert(org, [{"id": "ann", "data": {"email": "ann@example.com"}}])
    return service.client(org, scopes=(), roles=("Reviewer",))


@pytest.mark.parametrize(
    ("rpc", "request_fields"),
    [
        ("StreamMembers", {"filter": FILTER, "fields": ["email"]}),
        ("StreamMembers", {"filter": FILTER, "fields": ["email"], "encoding": "MEMBER_ENCODING_BSON"}),
        ("ExportIdentifiers", {"filter": FILTER, "platform": "meta", "fields": ["email"]}),
        ("StreamUnmatchedRows", {"audienceId": "custom-x"}),
    ],
)
def test_values_of_records_need_the_export_scope(
    reader: Client, refused: Callable[..., Refusal], rpc: str, request_fields: dict[str, object]
) -> None:
    """The refusal names the missing scope."""
    error = refused(lambda: reader.call(rpc, request_fields))
    assert (error.code, error.info.reason) == (grpc.StatusCode.PERMISSION_DENIED, "MISSING_SCOPE")
    assert dict(error.info.metadata) == {"scope": "audiences.export"}


def test_ids_and_counts_need_no_export_scope(reader: Client) -> None:
    """A reviewer streams the ids of members, and counts them."""
    [batch, totals] = reader.call("StreamMembers", {"filter": FILTER})
    assert [member.id for member in batch.members] == ["contact-ann"]
    assert totals.totals.member_count == reader.call("EstimateReach", {"filter": FILTER}).count == 1


def test_an_explanation_without_the_scope_has_no_values(service: Service, org: str, reader: Client) -> None:
    """Results are the same with and without the scope; only the values differ."""
    request = {"filter": FILTER, "contactId": "contact-ann"}
    withheld, full = reader.call("ExplainMembership", request), service.client(org).call("ExplainMembership", request)
    assert (withheld.member, withheld.values_withheld, full.values_withheld) == (True, True, False)
    assert "ann@example.com" in str(full.condition)
    for condition in (withheld.condition, *withheld.condition.conditions):
        assert not condition.HasField("value")
