"""The audit log: who read, exported, changed or deleted which audience, without a value of a record."""

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from audience_service.domain.core.context import Scope
from audience_service.mongo.store import Store
from audience_service.rpc.audit import UNRECORDED
from audience_service.rpc.descriptors import SERVICES
from audience_service.rpc.method import Method
from audience_service.settings import Settings
from audience_service.settings_error import SettingsError
from audience_service.wiring.server import open_audit_log
from tests.conftest import Service, run_service
from tests.support.client import Client, Refusal
from tests.support.waiting import eventually

ORG = "acme"
MARK = "marq7"
"""A part of every marked value."""
ADDRESS, NAME, NUMBER = f"{MARK}@example.com", f"{MARK} Person", "+15555550177"
BY_ADDRESS = {"datatype": "contact", "where": {"data.email": ADDRESS}}
CONTEXT: Any = SimpleNamespace(
    peer=lambda: "ipv4:192.0.2.1:5", invocation_metadata=lambda: [("orgid", ORG)], is_active=lambda: True
)
DOCUMENT = Path(__file__).parents[2] / "docs/reference/audit-log.md"


class Audited:
    """A server that writes its audit log to a file."""

    def __init__(self, service: Service, path: Path) -> None:
        self.service = service
        self.path = path
        self.client = service.client(ORG)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def wait_for(self, rpc: str, count: int) -> None:
        eventually(lambda: sum(line["rpc"].endswith(f"/{rpc}") for line in self.lines()) == count)

    def last(self, rpc: str) -> dict[str, Any]:
        """The latest line of an RPC, once it is written: that is after the client has the answer."""
        eventually(lambda: any(line["rpc"].endswith(f"/{rpc}") for line in self.lines()))
        return [line for line in self.lines() if line["rpc"].endswith(f"/{rpc}")][-1]


@pytest.fixture
def audited(store: Store, tmp_path: Path) -> Iterator[Audited]:
    """A server on each store in turn, with a contact of marked values."""
    path = tmp_path / "audit.jsonl"
    for service in run_service("", store, audit_log=str(path)):
        service.insert(ORG, [{"id": "ann", "data": {"email": ADDRESS, "name": NAME, "phone": NUMBER}}, {"id": "bob"}])
        yield Audited(service, path)


def test_a_line_says_who_read_which_audience_with_which_fields(audited: Audited) -> None:
    """The line of a stream has the rows that were sent, and the keys that the documentation lists."""
    segment = audited.client.create(name="all", filter={"datatype": "contact", "where": {}}).id
    request = {"audienceId": segment, "fields": ["email"], "purpose": "email"}
    assert len(list(audited.client.call("StreamMembers", request))) == 2
    line = audited.last("StreamMembers")
    assert re.fullmatch(r"2\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert re.match(r"ipv[46]:", line.pop("peer"))
    assert re.fullmatch(r"[0-9a-f]{32}", line.pop("request_id"))
    assert line == {
        "org": ORG,
        "subject": "tester",
        "rpc": "audience.v1.MembershipService/StreamMembers",
        "action": "read",
        "audience_ids": [segment],
        "exclude_audience_ids": [],
        "has_filter": False,
        "purpose": "email",
        "platform": "",
        "fields": ["email"],
        "omitted_count": 0,
        "row_count": 2,
        "code": "OK",
        "reason": "",
    }
    assert {"time", "peer", "request_id", *line} == set(
        re.findall(r"^\| `(\w+)` \|", DOCUMENT.read_text(), re.MULTILINE)
    )
    list(audited.client.call("StreamMembers", {**request, "encoding": "MEMBER_ENCODING_BSON"}))
    assert audited.last("StreamMembers")["row_count"] == 2


def test_changes_deletions_and_exports_are_recorded(audited: Audited) -> None:
    """A line names the created audience, the contacts' number, and the filter's presence."""
    client = audited.client
    segment = client.create(name="some", type="static", contactIds=["contact-ann", "contact-bob"]).id
    created = audited.last("CreateSegment")
    assert (created["action"], created["audience_ids"], created["row_count"]) == ("change", [segment], 2)
    client.call("DeleteSegment", {"id": segment})
    deleted = audited.last("DeleteSegment")
    assert (deleted["action"], deleted["audience_ids"]) == ("delete", [segment])
    list(client.call("ExportIdentifiers", {"filter": BY_ADDRESS, "platform": "meta", "fields": ["email"]}))
    line = audited.last("ExportIdentifiers")
    exported = (line["action"], line["platform"], line["has_filter"], line["fields"], line["row_count"])
    assert exported == ("export", "meta", True, ["email"], 1)


def test_a_refused_call_is_recorded_with_its_reason(audited: Audited, refused: Callable[..., Refusal]) -> None:
    """Also of an RPC that is not recorded otherwise. The subject is known once the token is verified."""
    service = audited.service
    cases = (
        (service.client(ORG, ttl_seconds=-60), "UNAUTHENTICATED", "EXPIRED_TOKEN", None),
        (service.client(ORG, scopes=("audiences.write",)), "PERMISSION_DENIED", "MISSING_SCOPE", "tester"),
        (Client(service.channel, (service.client("globex").metadata[0], ("orgid", ORG))), "PERMISSION_DENIED",
         "FOREIGN_ORG", "tester"),
    )  # fmt: skip
    for count, (client, code, reason, subject) in enumerate(cases, 1):
        refused(partial(client.call, "GetSegment", {"id": "segment-x"}))
        audited.wait_for("GetSegment", count)
        line = audited.last("GetSegment")
        assert (line["org"], line["code"], line["reason"], line["subject"]) == (ORG, code, reason, subject)


def test_definitions_and_counts_are_not_recorded(audited: Audited) -> None:
    """Every RPC is recorded unless it is listed, so one that is added later is."""
    audited.client.call("EstimateReach", {"filter": BY_ADDRESS})
    list(audited.client.call("StreamMembers", {"filter": BY_ADDRESS}))
    assert audited.last("StreamMembers")
    assert not [line for line in audited.lines() if line["rpc"].endswith("EstimateReach")]
    declared = {method.name: Method.of(method).scope for service in SERVICES for method in service.methods}
    assert {declared[name] for name in UNRECORDED} == {Scope.READ}


def test_a_cancelled_call_is_recorded(audited: Audited) -> None:
    """With the rows that were sent."""
    segment = audited.client.create(name="all", filter={"datatype": "contact", "where": {}}).id
    call = audited.client.call("WatchMembership", {"audienceId": segment})
    next(iter(call))
    call.cancel()
    assert audited.last("WatchMembership")["code"] == "CANCELLED"


def test_a_call_that_outlives_the_process_is_recorded_once(tmp_path: Path) -> None:
    """As its log is closed, and not again if it ends after all."""
    log = open_audit_log(Settings(audit_log=str(tmp_path / "audit")))
    call = log.begin("/audience.v1.MembershipService/StreamMembers", Scope.READ, CONTEXT)
    log.close()
    log.finish(call, "OK", "")
    [line] = map(json.loads, (tmp_path / "audit").read_text().splitlines())
    assert (line["code"], line["reason"]) == ("UNAVAILABLE", "SERVER_STOPPING")
    assert (line["org"], line["peer"]) == (ORG, "ipv4:192.0.2.1:5")


def test_the_log_of_an_unknown_or_unwritable_destination_is_refused(tmp_path: Path) -> None:
    """A misspelt word is no file, and the server does not start without its log."""
    with pytest.raises(ValueError, match="stdot is no destination"):
        Settings(audit_log="stdot")
    with pytest.raises(SettingsError, match="AUDIENCE_AUDIT_LOG: cannot write"):
        open_audit_log(Settings(audit_log=str(tmp_path / "missing/audit")))
