"""Positions that only a holder of the sealing key could forge: refused as invalid, never a defect of the server."""

from typing import Any

import grpc
import pytest

from audience_service.domain.core.page_tokens import TokenCodec
from tests.conftest import SEALING_KEY, Service
from tests.support.client import Client
from tests.support.sealing import forge, position_of

TOKENS = TokenCodec(SEALING_KEY.encode())
VALUES: list[Any] = [
    None, True, False, -1, 0, 1, 0.5, float("inf"), 2**31, 2**53, 2**63, 10**400, [], {}, ["a"], {"$gt": ""},
    "", "x", "\x00", "\ud800", "$where", "2026", "2026-01-01", "2026-01-01T00:00:00", "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00", "2026-13-01T00:00:00+00:00", "x" * 20_000,
]  # fmt: skip
ALLOWED = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "OUT_OF_RANGE", "UNIMPLEMENTED"}


def calls(client: Client, service: Service, org: str) -> dict[str, tuple[str, dict[str, Any], str]]:
    """The RPCs that continue at a position: the request with a token, and the token's field."""
    where = {"datatype": "contact", "where": {}}
    ids = service.insert(org, [{} for _ in range(3)])
    segments = [client.create(name=f"s{number}", type="static", contactIds=ids) for number in range(2)]
    for number in range(2):
        client.custom(name=f"c{number}")
    client.call("UpdateSegment", {"segment": {"id": segments[0].id, "name": "new"}, "updateMask": "name"})

    def page(rpc: str, **request: Any) -> tuple[str, dict[str, Any], str]:
        answer = client.call(rpc, {**request, "pageSize": 1})
        return rpc, {**request, "pageSize": 1, "pageToken": answer.next_page_token}, "pageToken"

    def stream(rpc: str, field: str, **request: Any) -> tuple[str, dict[str, Any], str]:
        call = client.call(rpc, request)
        first = next(iter(call))
        call.cancel()
        return rpc, {**request, field: first.resume_token if field == "resumeToken" else first.cursor}, field

    return {
        "segments by time": page("ListSegments"),
        "segments by name": page("ListSegments", orderBy="name"),
        "contacts": page("ListSegmentContacts", id=segments[1].id),
        "versions": page("ListSegmentVersions", id=segments[0].id),
        "custom audiences": page("ListCustomAudiences"),
        "audiences of a contact": page("ListAudiencesOfContact", contactId=ids[0]),
        "locations": page("ListLocations", query="san"),
        "members": stream("StreamMembers", "cursor", filter=where, batchSize=1),
        "watch": stream("WatchMembership", "resumeToken", audienceId=segments[0].id),
        "rows": stream("ExportIdentifiers", "cursor", filter=where, platform="meta"),
    }


def outcome(client: Client, rpc: str, request: dict[str, Any]) -> str:
    """The status of a call, of the first message if it is a stream."""
    try:
        answer = client.call(rpc, request)
        if hasattr(answer, "cancel"):
            next(iter(answer), None)
            answer.cancel()
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code.name
    return "OK"


@pytest.mark.slow
def test_no_forged_position_is_an_internal_error(service: Service, client: Client, org: str) -> None:
    """Every value at every place of every position, and positions of other lengths."""
    answers: dict[str, set[str]] = {}
    for name, (rpc, request, field) in calls(client, service, org).items():
        token = request[field]
        assert token, name
        position = position_of(TOKENS, token)
        forged: list[Any] = [None, {}, 7, "x", [], position[:-1], [*position, 1], [position] * 2]
        forged += [[*position[:at], value, *position[at + 1 :]] for at in range(len(position)) for value in VALUES]
        answers[name] = {outcome(client, rpc, {**request, field: forge(TOKENS, token, each)}) for each in forged}
    assert {name: codes - ALLOWED for name, codes in answers.items()} == {name: set() for name in answers}
    assert all("INVALID_ARGUMENT" in codes for codes in answers.values()), answers


@pytest.mark.slow
def test_a_bomb_is_not_unpacked(client: Client) -> None:
    """Positions are not compressed, so a token cannot be larger inside than outside."""
    token = TOKENS.encode(("any",), ["x" * 3_000_000])
    assert outcome(client, "ListSegments", {"pageToken": token}) == "INVALID_ARGUMENT"
