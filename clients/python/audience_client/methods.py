"""Which RPCs are safe to repeat, and the options of a channel."""

import json
import uuid
from typing import Any, TypeVar

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from audience_client.pb.audience.v1 import (
    audience_service_pb2,
    custom_audience_service_pb2,
    filter_service_pb2,
    membership_service_pb2,
    options_pb2,
    reach_service_pb2,
    segment_service_pb2,
    sync_service_pb2,
    targeting_service_pb2,
)

Request = TypeVar("Request", bound=Message)

_MODULES = (
    segment_service_pb2,
    filter_service_pb2,
    audience_service_pb2,
    custom_audience_service_pb2,
    reach_service_pb2,
    membership_service_pb2,
    sync_service_pb2,
    targeting_service_pb2,
)
_REPEATABLE_WRITES = frozenset(
    (
        "AcknowledgeSyncBatch",
        "AddSegmentContacts",
        "EraseContact",
        "RegisterUse",
        "ReleaseUse",
        "RemoveSegmentContacts",
    )
)
"""Writes with the same result when they are repeated, as the protos say."""
_READ_SCOPE = "audiences.read"


def _methods() -> dict[str, MethodDescriptor]:
    found: dict[str, MethodDescriptor] = {}
    for module in _MODULES:
        for service in module.DESCRIPTOR.services_by_name.values():
            found |= {method.input_type.full_name: method for method in service.methods}
    return found


METHODS = _methods()
"""The RPCs by the full name of their request. Each RPC has a request of its own."""


def is_repeatable(request: Message) -> bool:
    """Whether the RPC of a request is safe to repeat if its response was lost.

    Reads are, creations with a `request_id`, and some other writes.
    """
    return _is_repeatable(METHODS[request.DESCRIPTOR.full_name])


def with_request_id(request: Request) -> Request:
    """The request, with a `request_id` if it may have one: a repeated call then creates one thing only."""
    if "request_id" not in request.DESCRIPTOR.fields_by_name:
        return request
    copied: Any = type(request)()
    copied.CopyFrom(request)
    copied.request_id = copied.request_id or uuid.uuid4().hex
    identified: Request = copied
    return identified


def channel_options() -> list[tuple[str, Any]]:
    """The options of a channel: retries, a fast reconnect, and keepalive to detect a lost machine."""
    return [
        ("grpc.service_config", _service_config()),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 5_000),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
    ]


def _is_repeatable(method: MethodDescriptor) -> bool:
    scope = method.GetOptions().Extensions[options_pb2.required_scope]
    creates_once = "request_id" in method.input_type.fields_by_name
    return scope == _READ_SCOPE or creates_once or method.name in _REPEATABLE_WRITES


def _service_config() -> str:
    """The service config: every call waits for a connection, and gRPC repeats the safe calls that lost theirs."""
    names = [
        {"service": method.containing_service.full_name, "method": method.name}
        for method in METHODS.values()
        if _is_repeatable(method)
    ]
    retries = {
        "maxAttempts": 4,
        "initialBackoff": "0.2s",
        "maxBackoff": "2s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    config = [{"name": names, "waitForReady": True, "retryPolicy": retries}, {"name": [{}], "waitForReady": True}]
    return json.dumps({"methodConfig": config})
