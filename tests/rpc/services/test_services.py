"""Servicers inside the interceptor, by grpc's own test server: decoding, errors midway, slots, deadlines."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import bson
import grpc
import grpc_testing
import pytest
from grpc_reflection.v1alpha import reflection_pb2
from pydantic import SecretStr

from audience_service.cli.token import mint
from audience_service.domain.audiences.resolver import AudienceResolver
from audience_service.domain.audiences.selection_resolver import SelectionResolver
from audience_service.domain.core.context import Deadline
from audience_service.domain.core.documents import Documents, cut_documents
from audience_service.domain.core.errors import AudienceError, StoreUnavailable
from audience_service.domain.core.page_tokens import TokenCodec
from audience_service.domain.core.record import Record
from audience_service.domain.explain.membership_explanation import MembershipExplainer
from audience_service.domain.filters import FilterCompiler
from audience_service.domain.filters.population import Population
from audience_service.domain.history.history import MembershipHistory
from audience_service.domain.history.size_history import SizeHistoryReader
from audience_service.domain.insights.baselines import BaselineCache
from audience_service.domain.insights.service import Insights
from audience_service.domain.membership.checks import MembershipChecker
from audience_service.domain.membership.partitions import Partitioner
from audience_service.domain.membership.service import Membership
from audience_service.domain.reach.overlap import Overlaps
from audience_service.domain.reach.service import Reach
from audience_service.domain.snapshots.reader import SnapshotReader
from audience_service.domain.watch.notifier import Notifier
from audience_service.domain.watch.registry import WatchRegistry
from audience_service.domain.watch.stream import WatchStreams
from audience_service.pb.audience.v1 import membership_service_pb2, reach_service_pb2
from audience_service.rpc.admission import Admission
from audience_service.rpc.audit import AuditLog
from audience_service.rpc.call_observer import CallObserver
from audience_service.rpc.calls import OpenCalls
from audience_service.rpc.descriptors import SERVICES
from audience_service.rpc.interceptor import CallInterceptor
from audience_service.rpc.method import Method
from audience_service.rpc.services.membership import MembershipServicer
from audience_service.rpc.services.reach import ReachServicer
from audience_service.rpc.workloads import WORKLOADS, Workload
from audience_service.settings import Settings
from audience_service.wiring.server import build_authenticator, build_key_ring, call_limits, timeouts
from tests.support.adapter import adapt
from tests.support.export_log import NoExportLog
from tests.support.linting import NoLinter

SETTINGS = Settings(jwt_key=SecretStr("k" * 32))
METADATA = (("authorization", f"Bearer {mint(SETTINGS, org='acme', subject='ann')}"), ("orgid", "acme"))
REACH = reach_service_pb2.DESCRIPTOR.services_by_name["ReachService"]
MEMBERSHIP = membership_service_pb2.DESCRIPTOR.services_by_name["MembershipService"]


class FakeMembers:
    """Returns scripted answers, and records its arguments and whether its stream was closed."""

    def __init__(self, batches: list[list[str]] | None = None, error: Exception | None = None) -> None:
        self.batches = batches or []
        self.error = error
        self.closed = False
        self.deadlines: list[float | None] = []
        self.orgs: list[str] = []

    def reach(self, org: str, population: Population, deadline: Deadline) -> tuple[int, Record | None]:
        self.orgs.append(org)
        self.deadlines.append(deadline.remaining())
        if self.error:
            raise self.error
        return 0, None

    def stream_documents(self, org: str, *_: Any) -> Iterator[Documents]:
        try:
            for batch in self.batches:
                records = [{"pk": f"contact-{key}", "sk": f"{org}/contact/{key}"} for key in batch]
                yield from cut_documents(b"".join(map(bson.encode, records)), len(batch))
            if self.error:
                raise self.error
        finally:
            self.closed = True


class Harness:
    """A test server for one service, with the interceptor as in production."""

    def __init__(self, members: Any) -> None:
        admission = Admission(call_limits(SETTINGS))
        self.stream_limiter = admission.slots[Workload.STREAM]
        interceptor = CallInterceptor(
            build_authenticator(SETTINGS, build_key_ring(SETTINGS)),
            SERVICES,
            admission,
            OpenCalls(),
            timeouts(SETTINGS),
            CallObserver(SERVICES),
            AuditLog(),
        )
        audiences = AudienceResolver(FilterCompiler(["contact"]), {})
        populations = SelectionResolver(audiences, members, SnapshotReader(None, members))  # type: ignore[arg-type]
        reach = ReachServicer(
            Reach(members, members, populations, NoLinter()),  # type: ignore[arg-type]
            Overlaps(members, audiences),
            Insights(members, audiences, BaselineCache(0), SizeHistoryReader(members, members), 0),
        )
        partitions = Partitioner(members, members, members)
        tokens = TokenCodec(b"key")
        membership = MembershipServicer(
            Membership(
                members,
                populations,
                partitions,
                MembershipHistory(members, members, audiences),
                tokens,
                NoExportLog(),
            ),
            MembershipChecker(members, members, audiences, tokens, ["contact"]),
            MembershipExplainer(members, audiences),
            None,  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
            WatchStreams(
                WatchRegistry(members, timedelta(days=1), 1, lambda: None),
                members,
                members,
                audiences,
                tokens,
                10,
                Notifier(),
            ),
        )
        wrapped: dict[Any, Any] = {}
        for service, servicer in ((REACH, reach), (MEMBERSHIP, membership)):
            handlers: dict[str, Callable[..., Any]] = {}
            for method in service.methods:
                handlers[method.name] = adapt(interceptor, Method.of(method), getattr(servicer, method.name))
            wrapped[service] = type("Wrapped", (), {k: staticmethod(v) for k, v in handlers.items()})()
        self.server = grpc_testing.server_from_dictionary(wrapped, grpc_testing.strict_real_time())

    def unary(self, request: Any, timeout: float | None = None, metadata: Any = METADATA) -> Any:
        method = REACH.methods_by_name["EstimateReach"]
        return self.server.invoke_unary_unary(method, metadata, request, timeout).termination()

    def stream(self, request: Any) -> Any:
        method = MEMBERSHIP.methods_by_name["StreamMembers"]
        return self.server.invoke_unary_stream(method, METADATA, request, None)


def all_contacts(kind: Any) -> Any:
    """A request for all contacts."""
    return kind(filter={"datatype": "contact", "where": {}})


def test_the_callers_org_and_deadline_reach_the_repository() -> None:
    members = FakeMembers()
    harness = Harness(members)
    for timeout, least, most in ((7.0, 5, 7), (None, 28, 30)):
        _, _, code, _ = harness.unary(all_contacts(reach_service_pb2.EstimateReachRequest), timeout)
        assert code is grpc.StatusCode.OK
        assert members.deadlines[-1] is not None
        assert least < members.deadlines[-1] <= most
    assert members.orgs == ["acme", "acme"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StoreUnavailable("gone"), grpc.StatusCode.UNAVAILABLE),
        (ZeroDivisionError("secret@example.com"), grpc.StatusCode.INTERNAL),
    ],
)
def test_an_error_midway_is_reported_like_any_other(error: Exception, code: grpc.StatusCode) -> None:
    members = FakeMembers([["a", "b"], ["c"]], error)
    harness = Harness(members)
    rpc = harness.stream(all_contacts(membership_service_pb2.StreamMembersRequest))
    assert [m.id for m in rpc.take_response().members] == ["contact-a", "contact-b"]
    assert [m.id for m in rpc.take_response().members] == ["contact-c"]
    _, status, details = rpc.termination()  # the test server drops an abort's details; test_outage checks them
    assert status is code
    assert "secret" not in details
    assert members.closed
    assert harness.stream_limiter.open_count == 0
    unary = Harness(FakeMembers(error=error)).unary(all_contacts(reach_service_pb2.EstimateReachRequest))
    assert unary[-2] is code
    assert "secret" not in unary[-1]


def test_bytes_that_are_no_message_are_an_invalid_argument(service: Any, refused: Any) -> None:
    metadata = service.client("acme").metadata
    for method, path in (
        ("unary_unary", "ReachService/EstimateReach"),
        ("unary_stream", "MembershipService/StreamMembers"),
    ):
        call = getattr(service.channel, method)(f"/audience.v1.{path}")
        for raw in (b"\xff\xff\xff", b"\x0a\x02\x0a\xff", b"\x12\x02\xc3\x28", _deep_struct()):
            refusal = refused(lambda call=call, raw=raw: call(raw, metadata=metadata))
            assert (refusal.code.name, refusal.info.reason) == ("INVALID_ARGUMENT", "MALFORMED_REQUEST")


def _deep_struct() -> bytes:
    """A filter whose Struct nests past what protobuf reads."""
    value = b"\x22\x00"
    for _ in range(200):
        value = _field(5, _field(1, _field(1, b"a") + _field(2, value)))
    return _field(1, _field(2, _field(1, _field(1, b"a") + _field(2, value))))


def _field(number: int, payload: bytes) -> bytes:
    length, size = len(payload), b""
    while length > 127:
        size += bytes([length & 127 | 128])
        length >>= 7
    return bytes([number << 3 | 2]) + size + bytes([length]) + payload


def test_a_method_without_a_scope_is_not_served() -> None:
    health = __import__("grpc_health.v1.health_pb2", fromlist=["DESCRIPTOR"]).DESCRIPTOR
    with pytest.raises(ValueError, match="not a valid Scope"):
        Method.of(health.services_by_name["Health"].methods_by_name["Check"])


def test_a_method_without_a_workload_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server does not start with it, instead of letting it use another workload's permits."""
    monkeypatch.delitem(WORKLOADS, "EstimateReach")
    with pytest.raises(ValueError, match="EstimateReach has no workload; add it to WORKLOADS"):
        Method.of(REACH.methods_by_name["EstimateReach"])


def test_a_method_that_streams_both_ways_is_not_served() -> None:
    """The server does not start with it, instead of failing at its first call."""
    services: Any = reflection_pb2.DESCRIPTOR.services_by_name
    with pytest.raises(ValueError, match="ServerReflectionInfo streams both ways"):
        Method.of(services["ServerReflection"].methods_by_name["ServerReflectionInfo"])


def test_every_method_of_the_contract_requires_a_scope() -> None:
    methods = [Method.of(method) for service in SERVICES for method in service.methods]
    writes = {method.path.rpartition("/")[2] for method in methods if method.scope == "audiences.write"}
    assert writes == {
        "CreateSegment",
        "UpdateSegment",
        "DeleteSegment",
        "UndeleteSegment",
        "RollbackSegment",
        "RegisterUse",
        "ReleaseUse",
        "AddSegmentContacts",
        "RemoveSegmentContacts",
        "CreateSnapshot",
        "DeleteSnapshot",
        "CreateCustomAudience",
        "UpdateCustomAudience",
        "DeleteCustomAudience",
        "RefreshCustomAudience",
        "UploadMembers",
        "CreateSync",
        "UpdateSync",
        "DeleteSync",
        "ResetSync",
        "AcknowledgeSyncBatch",
    }
    exports = {method.path.rpartition("/")[2] for method in methods if method.scope == "audiences.export"}
    assert exports == {"ExportIdentifiers", "StreamUnmatchedRows", "StreamSyncChanges", "ListExports"}
    assert [method.path.rpartition("/")[2] for method in methods if method.scope == "audiences.erase"] == [
        "EraseContact"
    ]


def test_a_defect_is_logged_under_the_incident_in_the_response(capfd: pytest.CaptureFixture[str]) -> None:
    harness = Harness(FakeMembers(error=ZeroDivisionError("in the store")))
    details = harness.unary(all_contacts(reach_service_pb2.EstimateReachRequest))[-1]
    incident = details.rpartition(" ")[2]
    logged = "".join(capfd.readouterr())
    assert incident in logged
    assert "ZeroDivisionError" in logged


def test_domain_errors_are_not_logged_as_defects(capfd: pytest.CaptureFixture[str]) -> None:
    Harness(FakeMembers(error=StoreUnavailable("gone"))).unary(all_contacts(reach_service_pb2.EstimateReachRequest))
    assert "internal error" not in "".join(capfd.readouterr())
    assert issubclass(StoreUnavailable, AudienceError)
