"""The audit log: one line of JSON for each call that reads members or changes something, and for each refused caller.

docs/reference/audit-log.md documents every key. A line has ids, counts and reasons, and never a value of a record, a
filter, a name or an uploaded row:

1. CallInterceptor begins and finishes each call. Its outcome is the status that the client gets.
2. AuditObserver sees the decoded messages of a call, and notes what it is about. It runs inside CallInterceptor.
3. A call without an end when the process stops is recorded by `close`.
"""

from __future__ import annotations  # grpc's handler types are generic to the type checker only

import json
import logging
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import grpc
import structlog
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

from audience_service.domain.core.context import Scope
from audience_service.domain.watch.errors import ServerStopping
from audience_service.rpc.converters.member_bytes import SerializedMembers

UNRECORDED = frozenset({
    "GetSegment", "ListSegments", "ListSegmentVersions", "GetAudienceUsage", "GetCustomAudience", "GetSync",
    "ListCustomAudiences", "ListCustomAudienceTypes", "GetUpload", "GetLookalikeModel", "GetSnapshot", "ListSnapshots",
    "ExplainFilter", "ListFields", "EstimateReach", "StreamReach", "GetOverlap", "GetOverlapRegions", "GetInsights",
    "ListInterests", "ListLocations", "ListSyncs", "ListTargetingOptions",
})  # fmt: skip
"""The RPCs that read definitions, counts and tables, and no members. They are recorded only if the caller is refused.

Every other RPC is recorded, also one that is added later.
"""

_REFUSALS = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED"})
_MAX_NAMES = 100
"""The most ids, and the most fields, in a line. More are counted in `omitted_count`."""
_SAFE_NAME = re.compile(r"[A-Za-z0-9_.$-]{1,128}", re.ASCII)
_UNSAFE_NAME = "(invalid)"
"""Replaces an id or a field that has other characters: it may be a value, such as an email address."""
_ROW_FIELDS = (
    "members", "rows", "events", "entered_ids", "exited_ids", "contact_ids", "memberships", "audiences", "rejections",
)  # fmt: skip
"""The repeated fields of responses, and of requests that write, whose elements count as rows."""

_CALL: ContextVar[AuditedCall | None] = ContextVar("audited_call", default=None)


@dataclass(eq=False, slots=True)
class AuditedCall:
    """What is known of a call so far."""

    rpc: str
    peer: str
    org: str | None
    action: str
    identity: Mapping[str, Any] = field(default_factory=dict)
    """The subject and the request id, once they are known."""
    audience_ids: list[str] = field(default_factory=list)
    exclude_audience_ids: list[str] = field(default_factory=list)
    has_filter: bool = False
    purpose: str = ""
    platform: str = ""
    fields: list[str] = field(default_factory=list)
    row_count: int = 0

    def observe_request(self, request: Message) -> None:
        """Note what a request is about; of a stream of requests, also the first one."""
        self.identity = structlog.contextvars.get_contextvars()
        self._note_ids(request)
        self.purpose = self.purpose or _safe_name(getattr(request, "purpose", ""))
        self.platform = self.platform or _safe_name(getattr(request, "platform", ""))
        if isinstance(paths := getattr(request, "fields", None), Iterable):
            self.fields += map(_safe_name, [*paths, *getattr(request, "consent_fields", ())])
        if self.action != "read":
            self.row_count += _count_rows(request)

    def observe_response(self, response: Message | SerializedMembers) -> None:
        """Count the rows of a response, and note the id of what was created."""
        if isinstance(response, SerializedMembers):
            self.row_count += response.member_count
        elif self.action in ("change", "delete"):
            self._note_ids(response, depth=0)
            self.row_count += getattr(response, "row_count", 0)  # of an upload
            self.row_count += getattr(response, "contact_count", 0) if self.rpc.endswith("EraseContact") else 0
        else:
            self.row_count += _count_rows(response)

    def _note_ids(self, message: Message, depth: int = 1) -> None:
        for declared, value in message.ListFields():
            if declared.message_type and declared.message_type.name == "Filter":
                self.has_filter = True
            elif declared.message_type and not declared.is_repeated and depth:
                self._note_ids(value, depth - 1)
            elif re.fullmatch(r"exclude_audience_ids", declared.name):
                self.exclude_audience_ids += map(_safe_name, value)
            elif re.fullmatch(r"id|(\w+_)?(audience|snapshot|segment)_ids?", declared.name):
                found = [_safe_name(name) for name in (value if declared.is_repeated else [value])]
                self.audience_ids += [name for name in found if name not in self.audience_ids[:_MAX_NAMES]]


class AuditLog:
    """Writes the audit log. Without a handler it writes nothing."""

    def __init__(self, handler: logging.Handler | None = None) -> None:
        self._logger = logging.Logger("audit", logging.INFO) if handler else None
        if self._logger and handler:
            self._logger.addHandler(handler)
        self._handler = handler
        self._open: set[AuditedCall] = set()
        self._lock = threading.Lock()

    def begin(self, path: str, scope: str, context: grpc.ServicerContext) -> AuditedCall | None:
        """Begin the record of a call: its path, the scope that it requires, and its peer and org.

        None if the log is off.
        """
        if self._logger is None:
            return None
        call = AuditedCall(path.lstrip("/"), context.peer(), _read_org(context), _action(path, scope))
        _CALL.set(call)
        with self._lock:
            self._open.add(call)
        return call

    def finish(self, call: AuditedCall | None, code: str, reason: str) -> None:
        """Write the line of a call, unless it is written already or the call is not recorded."""
        with self._lock:
            if call is None or call not in self._open:
                return
            self._open.discard(call)
        is_recorded = call.rpc.rpartition("/")[2] not in UNRECORDED or code in _REFUSALS
        if self._logger and is_recorded:
            self._logger.info(json.dumps(_line(call, code, reason), separators=(",", ":")))

    def close(self) -> None:
        """Record the calls that have not ended, as the process ends. Then close the log."""
        with self._lock:
            calls = tuple(self._open)
        for call in calls:
            self.finish(call, "UNAVAILABLE", ServerStopping.reason)
        if self._handler:
            self._handler.close()  # standard output and error stay open


class AuditObserver(grpc.ServerInterceptor):
    """Notes what each call of the given services is about. It comes after CallInterceptor, which decodes messages."""

    def __init__(self, services: Iterable[ServiceDescriptor]) -> None:
        self._prefixes = tuple(f"/{service.full_name}/" for service in services)

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap the handlers of the services."""
        handler = continuation(handler_call_details)
        if handler is None or not handler_call_details.method.startswith(self._prefixes):
            return handler
        serializer = handler.response_serializer
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(_unary(handler.unary_unary), None, serializer)
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(_server_stream(handler.unary_stream), None, serializer)
        if handler.stream_unary:
            return grpc.stream_unary_rpc_method_handler(_client_stream(handler.stream_unary), None, serializer)
        return handler


def _unary(behavior: Callable[..., Any]) -> Callable[..., Any]:
    def handle(request: Any, context: grpc.ServicerContext) -> Any:
        call = _CALL.get()
        if call is None:
            return behavior(request, context)
        call.observe_request(request)
        response = behavior(request, context)
        call.observe_response(response)
        return response

    return handle


def _server_stream(behavior: Callable[..., Any]) -> Callable[..., Any]:
    def handle(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        call = _CALL.get()
        if call is not None:
            call.observe_request(request)
        with closing(behavior(request, context)) as responses:
            for response in responses:
                yield response
                if call is not None:
                    call.observe_response(response)  # after the client's turn: rows that were not sent do not count

    return handle


def _client_stream(behavior: Callable[..., Any]) -> Callable[..., Any]:
    def handle(requests: Iterator[Any], context: grpc.ServicerContext) -> Any:
        call = _CALL.get()
        if call is None:
            return behavior(requests, context)

        def observed() -> Iterator[Any]:
            for index, request in enumerate(requests):
                if not index:  # the others carry data
                    call.observe_request(request)
                yield request

        response = behavior(observed(), context)
        call.observe_response(response)
        return response

    return handle


def _line(call: AuditedCall, code: str, reason: str) -> dict[str, Any]:
    identity = call.identity or structlog.contextvars.get_contextvars()
    names = (call.audience_ids, call.exclude_audience_ids, call.fields)
    return {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "org": call.org,
        "subject": identity.get("subject"),
        "peer": call.peer,
        "rpc": call.rpc,
        "action": call.action,
        "audience_ids": call.audience_ids[:_MAX_NAMES],
        "exclude_audience_ids": call.exclude_audience_ids[:_MAX_NAMES],
        "has_filter": call.has_filter,
        "purpose": call.purpose,
        "platform": call.platform,
        "fields": call.fields[:_MAX_NAMES],
        "omitted_count": sum(max(len(found) - _MAX_NAMES, 0) for found in names),
        "row_count": call.row_count,
        "code": code,
        "reason": reason,
        "request_id": identity.get("request_id"),
    }


def _action(path: str, scope: str) -> str:
    """`read`, `export`, `change` or `delete`."""
    if scope == Scope.EXPORT:
        return "export"
    if scope == Scope.READ:
        return "read"
    return "delete" if path.rpartition("/")[2].startswith(("Delete", "Remove", "Erase")) else "change"


def _count_rows(message: Message) -> int:
    """The number of rows of a message, and of the records directly in it."""
    count = 0
    for declared, value in message.ListFields():
        if declared.is_repeated and declared.name in _ROW_FIELDS:
            count += len(value)
        elif declared.name == "document_count":
            count += value
        elif declared.name == "segment":
            count += len(value.contact_ids)
    return count


def _safe_name(text: str) -> str:
    return text if not text or _SAFE_NAME.fullmatch(text) else _UNSAFE_NAME


def _read_org(context: grpc.ServicerContext) -> str | None:
    """The org that the call names. The caller of a refused call may have no access to it."""
    orgs = [value for key, value in context.invocation_metadata() or () if key == "orgid"]
    return _safe_name(str(orgs[0])) if len(orgs) == 1 and orgs[0] else None
