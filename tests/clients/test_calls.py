"""Retries, resumption, tokens and errors of the Python client, against a scripted server."""

import asyncio
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from audience_client import AsyncAudienceClient, AudienceClient, AudienceError
from audience_client.errors import NotFound, Unavailable
from audience_client.methods import METHODS
from audience_client.pb.audience.v1 import membership_service_pb2 as membership_pb
from audience_client.pb.audience.v1 import segment_service_pb2 as segments_pb
from audience_client.pb.audience.v1.audience_service_pb2 import EraseContactRequest, EraseContactResponse
from audience_client.pb.audience.v1.error_reason_pb2 import ErrorReason
from audience_client.pb.audience.v1.resources_pb2 import Segment
from audience_client.reasons import BY_REASON, InvalidFilter, RateLimited, StaleVersion
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

Answer = Message | list[Any] | grpc.Status
Connect = Callable[..., AudienceClient]


class Script(grpc.GenericRpcHandler):
    """Answers each call with the next answer of a list, and keeps the requests, tokens and deadlines."""

    def __init__(self) -> None:
        self.answers: Sequence[Answer] = []
        self.requests: list[Any] = []
        self.tokens: list[str] = []
        self.seconds_left: list[float] = []

    def service(self, details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any]":
        """A handler of any RPC."""
        name = details.method.rpartition("/")[2]
        [method] = [method for method in METHODS.values() if method.name == name]
        kind = GetMessageClass(method.input_type)
        make = grpc.unary_stream_rpc_method_handler if method.server_streaming else grpc.unary_unary_rpc_method_handler
        answer: Any = self._stream if method.server_streaming else self._answer
        return make(answer, kind.FromString, lambda response: response.SerializeToString())

    def _answer(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.requests.append(request)
        self.tokens.append(str(dict(context.invocation_metadata())["authorization"]))
        self.seconds_left.append(context.time_remaining() or 0.0)
        answer = self.answers[len(self.requests) - 1]
        if isinstance(answer, grpc.Status):
            context.abort_with_status(answer)
        return answer

    def _stream(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        for part in self._answer(request, context):
            if isinstance(part, grpc.Status):
                context.abort_with_status(part)
            yield part


def failed(
    code: grpc.StatusCode, reason: str = "", *, delay: float | None = None, fields: dict[str, str] | None = None
) -> grpc.Status:
    """A status with the error details of the service."""
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=reason, metadata={"limited": "org"})] if reason else []
    if fields:
        violations = [
            error_details_pb2.BadRequest.FieldViolation(field=field, description=text) for field, text in fields.items()
        ]
        details.append(error_details_pb2.BadRequest(field_violations=violations))
    if delay is not None:
        retry = Duration()
        retry.FromMilliseconds(int(delay * 1000))
        details.append(error_details_pb2.RetryInfo(retry_delay=retry))
    status = status_pb2.Status(code=code.value[0], message=f"{reason} happened")
    for detail in details:
        status.details.add().Pack(detail)
    return rpc_status.to_status(status)


STOPPING = failed(grpc.StatusCode.UNAVAILABLE, "SERVER_STOPPING", delay=0.01)
SEGMENT = Segment(id="segment-1", name="VIPs")


@pytest.fixture(scope="module")
def scripted() -> Iterator[tuple[Script, str]]:
    """A scripted server and its address."""
    script = Script()
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[script])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield script, f"127.0.0.1:{port}"
    server.stop(0).wait()


@pytest.fixture
def script(scripted: tuple[Script, str]) -> Script:
    """The script, without answers and requests of other tests."""
    script, _ = scripted
    script.answers, script.requests, script.tokens, script.seconds_left = [], [], [], []
    return script


@pytest.fixture
def connect(scripted: tuple[Script, str]) -> Iterator[Connect]:
    """Opens clients of the scripted server."""
    opened: list[AudienceClient] = []

    def open_client(**changes: Any) -> AudienceClient:
        client = AudienceClient(scripted[1], **{"org": "acme", "token": "token", **changes})
        opened.append(client)
        return client

    yield open_client
    for client in opened:
        client.close()


def members(*ids: str, total: bool = False) -> membership_pb.StreamMembersResponse:
    """A message with members and the last one's id as cursor, or the last message."""
    totals = membership_pb.StreamTotals(member_count=9) if total else None
    found = [membership_pb.Member(id=member_id) for member_id in ids]
    return membership_pb.StreamMembersResponse(members=found, cursor=ids[-1] if ids else "end", totals=totals)


def test_every_rpc_has_a_stub(connect: Connect) -> None:
    """The stubs are named after their services."""
    for path in (Path(__file__).parents[2] / "protos/audience/v1").glob("*_service.proto"):
        stub = getattr(connect(), f"{path.stem.removesuffix('_service')}_stub")
        rpcs = re.findall(r"^  rpc (\w+)\(", path.read_text(), re.M)
        assert rpcs
        assert {name for name in rpcs if hasattr(stub, name)} == set(rpcs)
        assert set(rpcs) <= {method.name for method in METHODS.values()}


def test_a_limited_call_is_repeated_after_the_delay_of_its_error(script: Script, connect: Connect) -> None:
    """RetryInfo is honoured, for writes too: a limited call has done nothing."""
    script.answers = [failed(grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED", delay=0.2), SEGMENT]
    started_at = time.monotonic()
    client = connect()
    client.call(client.segment_stub.UpdateSegment, segments_pb.UpdateSegmentRequest(segment=SEGMENT))
    assert time.monotonic() - started_at >= 0.2


def test_a_delay_past_the_deadline_is_an_error_at_once(script: Script, connect: Connect) -> None:
    """The error is the service's, not a deadline of the client."""
    script.answers = [failed(grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED", delay=60)]
    with pytest.raises(RateLimited) as caught:
        connect(timeout=5).segment("segment-1")
    assert (caught.value.retry_delay, caught.value.metadata) == (60, {"limited": "org"})


@pytest.mark.slow
def test_a_read_is_repeated_when_the_server_stops(script: Script, connect: Connect) -> None:
    """gRPC repeats it first, then the client."""
    script.answers = [STOPPING] * 5 + [SEGMENT]
    assert connect().segment("segment-1") == SEGMENT


def test_a_creation_is_repeated_with_one_request_id(script: Script, connect: Connect) -> None:
    """The service creates one thing, however often it gets the request."""
    script.answers = [STOPPING, SEGMENT]
    assert connect().create_segment("VIPs", {"where": {}}) == SEGMENT
    assert len({request.request_id for request in script.requests}) == 1
    assert script.requests[0].request_id


def test_an_erasure_is_repeated_with_time_for_it(script: Script, connect: Connect) -> None:
    """The person may be erased already, and only a complete call reports it. One takes 4 s and the removal."""
    script.answers = [failed(grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE", delay=0.01), EraseContactResponse()]
    client = connect()
    client.call(client.audience_stub.EraseContact, EraseContactRequest(email="leaver@example.com"))
    assert len(script.requests) == 2
    assert script.seconds_left[0] > 25


def test_a_write_is_not_repeated_if_it_may_be_done(script: Script, connect: Connect) -> None:
    """A rollback that is repeated after its response was lost would write twice."""
    script.answers = [STOPPING, SEGMENT]
    client = connect()
    request = segments_pb.RollbackSegmentRequest(id="segment-1", target_version=0)
    with pytest.raises(Unavailable):
        client.call(client.segment_stub.RollbackSegment, request)
    assert len(script.requests) == 1


@pytest.mark.slow
def test_a_broken_stream_is_resumed_after_its_last_message(script: Script, connect: Connect) -> None:
    """Each member arrives once, whether the stream ends by an error or without its totals."""
    script.answers = [
        [members("a", "b"), STOPPING],
        [members("c")],
        [failed(grpc.StatusCode.DEADLINE_EXCEEDED, "OUT_OF_TIME")],
        [members("d"), members(total=True)],
    ]
    read = connect().members("segment-1")
    assert [member.id for member in read] == ["a", "b", "c", "d"]
    assert [request.cursor for request in script.requests] == ["", "b", "c", "c"]
    assert read.totals is not None
    assert read.totals.member_count == 9


@pytest.mark.slow
def test_a_stream_without_progress_ends(script: Script, connect: Connect) -> None:
    """`resume_timeout` is how long it is resumed."""
    script.answers = [[failed(grpc.StatusCode.UNAVAILABLE, "SERVER_STOPPING", delay=0.2)]] * 100
    with pytest.raises(Unavailable):
        list(connect(resume_timeout=2).members("segment-1"))
    assert 1 < len(script.requests) < 100


def test_an_error_names_its_reason_and_fields(script: Script, connect: Connect) -> None:
    """A typed exception, with the paths of the invalid fields."""
    fields = {"filter.where.age": "$gtt is not an operator", "filter.datatype": "is missing"}
    script.answers = [failed(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FILTER", fields=fields)]
    with pytest.raises(InvalidFilter) as caught:
        connect().create_segment("VIPs", {"where": {"age": {"$gtt": 1}}})
    assert {violation.field: violation.description for violation in caught.value.field_violations} == fields
    assert str(caught.value).startswith("INVALID_FILTER: INVALID_FILTER happened\n  filter.where.age: $gtt")
    assert caught.value.__cause__ is None


def test_a_reason_of_a_newer_service_has_the_class_of_its_status(script: Script, connect: Connect) -> None:
    """The reason itself is kept."""
    script.answers = [failed(grpc.StatusCode.NOT_FOUND, "A_NEW_REASON")]
    with pytest.raises(NotFound) as caught:
        connect().segment("segment-1")
    assert caught.value.reason == "A_NEW_REASON"


def test_every_reason_has_a_class() -> None:
    """Generated from the service's table."""
    assert BY_REASON.keys() == set(ErrorReason.keys()) - {"ERROR_REASON_UNSPECIFIED"}
    assert all(issubclass(kind, AudienceError) for kind in BY_REASON.values())


def test_a_list_has_the_items_of_all_pages(script: Script, connect: Connect) -> None:
    """The next page is read when its first item is needed."""
    pages = (("a", "token-2"), ("b", ""))
    script.answers = [
        segments_pb.ListSegmentsResponse(segments=[Segment(id=found)], next_page_token=token) for found, token in pages
    ]
    listed = connect().segments()
    assert next(listed).id == "a"
    assert len(script.requests) == 1
    assert [segment.id for segment in listed] == ["b"]
    assert script.requests[1].page_token == "token-2"


def make_token(number: int, seconds: float) -> str:
    """A JWT that expires in some seconds."""
    return jwt.encode({"n": number, "exp": time.time() + seconds}, "a key that is longer than 32 bytes!")


def test_a_token_is_kept_until_a_minute_before_its_expiry(script: Script, connect: Connect) -> None:
    """The provider is called again then."""
    script.answers = [SEGMENT] * 4
    tokens = iter([make_token(1, 3600), make_token(2, 30), make_token(3, 3600)])
    first = connect(token=lambda: next(tokens))
    for _ in range(2):
        first.segment("segment-1")
    second = connect(token=lambda: next(tokens))
    for _ in range(2):
        second.segment("segment-1")
    assert len(set(script.tokens[:2])) == 1
    assert len(set(script.tokens)) == 3


def test_an_expired_token_is_replaced_once(script: Script, connect: Connect) -> None:
    """The clocks may differ: the service decides what is expired."""
    expired = failed(grpc.StatusCode.UNAUTHENTICATED, "EXPIRED_TOKEN")
    script.answers = [expired, SEGMENT]
    tokens = iter([make_token(n, 3600) for n in range(9)])
    assert connect(token=lambda: next(tokens)).segment("segment-1") == SEGMENT
    script.answers = [expired] * 3
    with pytest.raises(BY_REASON["EXPIRED_TOKEN"]):
        connect(token="fixed").segment("segment-1")


def test_concurrent_calls_fetch_one_token(script: Script, connect: Connect) -> None:
    """Threads share a client."""
    script.answers = [SEGMENT] * 8
    fetched: list[str] = []

    def fetch() -> str:
        fetched.append(make_token(len(fetched), 3600))
        return fetched[-1]

    client = connect(token=fetch)
    threads = [threading.Thread(target=client.segment, args=("segment-1",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fetched) == 1


@pytest.mark.slow
def test_a_call_waits_for_a_server_and_names_its_address() -> None:
    """Without a server the deadline passes."""
    with AudienceClient("127.0.0.1:1", org="acme", token="token", timeout=0.3) as client:  # noqa: SIM117
        with pytest.raises(AudienceError, match=r"127\.0\.0\.1:1"):
            client.segment("segment-1")


def test_the_asyncio_client_behaves_alike(scripted: tuple[Script, str], script: Script) -> None:
    """It is the source of the other one."""
    script.answers = [
        STOPPING,
        SEGMENT,
        [members("a"), STOPPING],
        [members("b"), members(total=True)],
        failed(grpc.StatusCode.ABORTED, "STALE_VERSION"),
    ]

    async def fetch() -> str:
        return make_token(1, 3600)

    async def run() -> list[str]:
        async with AsyncAudienceClient(scripted[1], org="acme", token=fetch) as client:
            segment = await client.segment("segment-1")
            read = [member.id async for member in client.members(segment.id)]
            with pytest.raises(StaleVersion):
                await client.segment("segment-1")
            return read

    assert asyncio.run(run()) == ["a", "b"]
