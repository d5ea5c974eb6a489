"""The RPCs, as declared in the protos."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from audience_service.domain.core.context import Scope
from audience_service.domain.core.errors import InvalidArgument, MalformedRequest, RequestTooLarge
from audience_service.pb.audience.v1 import options_pb2
from audience_service.rpc.admission import MAX_REQUEST_BYTES
from audience_service.rpc.workloads import WORKLOADS, Workload


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC, as declared in the protos."""

    path: str
    scope: Scope
    workload: Workload
    request: type[Message]
    required_ids: tuple[tuple[str, ...], ...]
    """The field paths of the ids that a request must set."""
    is_client_streaming: bool
    is_server_streaming: bool

    @classmethod
    def of(cls, descriptor: MethodDescriptor) -> Method:
        """The method of a descriptor.

        Raises ValueError if its required scope is missing or unknown, if it has no workload, or if both sides stream.
        """
        options = descriptor.GetOptions().Extensions
        path = f"/{descriptor.containing_service.full_name}/{descriptor.name}"
        if descriptor.client_streaming and descriptor.server_streaming:
            raise ValueError(f"{path} streams both ways, which no RPC of this service does; let one side stream")
        scope = Scope(options[options_pb2.required_scope])
        if descriptor.name not in WORKLOADS:
            raise ValueError(f"{path} has no workload; add it to WORKLOADS in rpc/workloads.py")
        return cls(
            path=path,
            scope=scope,
            workload=WORKLOADS[descriptor.name],
            request=GetMessageClass(descriptor.input_type),
            required_ids=tuple(_required_ids(descriptor.input_type)),
            is_client_streaming=descriptor.client_streaming,
            is_server_streaming=descriptor.server_streaming,
        )

    def decode(self, raw: bytes | None) -> Message:
        """The request in the bytes; None if the client sent no message.

        Raises MalformedRequest, RequestTooLarge, or InvalidArgument if a required id is missing.
        """
        name = self.request.DESCRIPTOR.full_name
        if raw is None:
            raise MalformedRequest(f"the request has no message; send a {name}", metadata={"message": name})
        check_size(raw)
        try:
            request = self.request.FromString(raw)
        except DecodeError:
            raise MalformedRequest(f"the bytes are not a {name}", metadata={"message": name}) from None
        for path in self.required_ids:
            if not reduce(getattr, path, request):
                raise InvalidArgument.at(".".join(path), "is missing; set it to an id")
        return request


def check_size(raw: bytes) -> None:
    """Raise RequestTooLarge if a message has more than `MAX_REQUEST_BYTES`."""
    if len(raw) > MAX_REQUEST_BYTES:
        raise RequestTooLarge(
            f"the message has {len(raw):,} bytes, more than {MAX_REQUEST_BYTES:,}; send less at a time",
            metadata={"limit": str(MAX_REQUEST_BYTES)},
        )


def _required_ids(message: Descriptor, parents: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The field paths of the ids that a message and its required sub-messages declare as REQUIRED."""
    for field in message.fields:
        behaviors = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
        if field_behavior_pb2.FieldBehavior.REQUIRED not in behaviors:
            continue
        if field.message_type:
            yield from _required_ids(field.message_type, (*parents, field.name))
        elif field.name == "id" or field.name.endswith("_id"):
            yield (*parents, field.name)
