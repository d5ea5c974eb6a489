"""Drives a servicer through the interceptor with grpc's own test server, which hands messages over instead of bytes."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

from audience_service.pb.audience.v1.membership_service_pb2 import StreamMembersResponse
from audience_service.rpc.calls import OpenCall
from audience_service.rpc.converters.member_bytes import SerializedMembers
from audience_service.rpc.interceptor import CallInterceptor
from audience_service.rpc.method import Method


def adapt(interceptor: CallInterceptor, method: Method, behavior: Callable[..., Any]) -> Callable[..., Any]:
    """A servicer's method for the test server: with the steps of a real call, except that the test server sends."""

    def stream(request: Any, context: Any) -> Iterator[Any]:
        call = OpenCall(context)
        with (
            interceptor.boundary(method.path, call),
            closing(interceptor.responses(method, behavior, iter([request.SerializeToString()]), call)) as responses,
        ):
            for response in responses:
                yield (
                    StreamMembersResponse.FromString(response.content)
                    if isinstance(response, SerializedMembers)
                    else response
                )

    def unary(request: Any, context: Any) -> Any:
        call = OpenCall(context)
        with interceptor.boundary(method.path, call):
            return interceptor.response(method, behavior, iter([request.SerializeToString()]), call)

    return stream if method.is_server_streaming else unary
