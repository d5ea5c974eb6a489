"""Every RPC that the protos declare, and requests of them."""

import itertools
from collections.abc import Sequence
from functools import reduce
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from audience_service.rpc.descriptors import SERVICES
from audience_service.rpc.method import Method
from tests.conftest import Service
from tests.support.client import Refusal

METHODS = [method for service in SERVICES for method in service.methods if not method.client_streaming]
"""Those without a stream of requests."""
DEFECTS = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)


def named(method: MethodDescriptor) -> str:
    """The service and the name of an RPC."""
    return f"{method.containing_service.name}/{method.name}"


def refusal(
    service: Service, method: MethodDescriptor, request: Message, metadata: Any, timeout: float = 40
) -> Refusal | None:
    """What the answer to a request is refused with, None where it is answered."""
    kind: Any = service.channel.unary_stream if method.server_streaming else service.channel.unary_unary
    call = kind(
        f"/audience.v1.{named(method)}", type(request).SerializeToString, GetMessageClass(method.output_type).FromString
    )
    try:
        answer = call(request, metadata=metadata, timeout=timeout)
        if method.server_streaming:
            list(answer)
    except grpc.RpcError as error:
        return Refusal(error)
    return None


def about(method: MethodDescriptor, names: Sequence[str]) -> Message:
    """A request that names these wherever it has to name something."""
    request = GetMessageClass(method.input_type)()
    for path, name in zip(Method.of(method).required_ids, itertools.cycle(names)):
        setattr(reduce(getattr, path[:-1], request), path[-1], name)
    for field in method.input_type.fields:
        if field.name == "audience_id":  # also where it is one of several populations
            setattr(request, field.name, names[0])
    return request
