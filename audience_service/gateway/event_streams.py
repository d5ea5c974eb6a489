"""Streams of the service as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

    data: {"count": 4100, "exact": false, ...}

    id: <resume token or cursor>
    data: {"events": [...], "resumeToken": "...", ...}

    event: end
    data: {"code": 0, "message": "", "details": []}

1. An error before the first message is an HTTP error.
2. The last event is `end`, with the status of the stream. A stream without it is incomplete.
3. The id of an event is its position. A client that sends it as `Last-Event-ID` resumes after it.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.rpc import status_pb2
from starlette.requests import Request
from starlette.responses import StreamingResponse

from audience_service.gateway.bodies import cancelled_on_disconnect
from audience_service.gateway.errors import GatewayError, status_as_dict
from audience_service.gateway.json_text import encode_json
from audience_service.gateway.routes import Route

_POSITIONS = ("resume_token", "cursor")
"""The fields of request and response with the position in a stream."""
_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
"""No proxy keeps or collects events; the second header is nginx's."""


async def stream_events(
    channel: grpc.aio.Channel,
    route: Route,
    message: Message,
    request: Request,
    metadata: Sequence[tuple[str, str]],
    stopping: asyncio.Event,
) -> StreamingResponse:
    """The response of a stream, once its first message has arrived. Raises GatewayError if it begins with an error."""
    _resume(message, request.headers.get("last-event-id", ""))
    method = channel.unary_stream(route.rpc_path, type(message).SerializeToString, route.response_class.FromString)
    call: Any = method(message, metadata=metadata)
    try:
        async with cancelled_on_disconnect(request, call):
            first = await call.read()
    except grpc.aio.AioRpcError as error:
        raise GatewayError.from_rpc(error) from None
    return StreamingResponse(_events(call, first, stopping), media_type="text/event-stream", headers=_HEADERS)


def _resume(message: Any, last_event_id: str) -> None:
    """Set the position to the last event's id, which replaces the snapshot that the first connection began from.

    The request's own position takes precedence.
    """
    fields = message.DESCRIPTOR.fields_by_name
    position = next((name for name in _POSITIONS if name in fields), None)
    if position and last_event_id and not getattr(message, position):
        setattr(message, position, last_event_id)
        if "since_snapshot_id" in fields:
            message.since_snapshot_id = ""


async def _events(call: Any, first: Any, stopping: asyncio.Event) -> AsyncIterator[bytes]:
    """The events of a running RPC. The RPC is cancelled if nobody reads them any more."""
    status = status_pb2.Status()
    stop = asyncio.create_task(stopping.wait())
    try:
        message = first
        while message is not grpc.aio.EOF:
            yield _event(message)
            read = asyncio.create_task(call.read())
            await asyncio.wait({read, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not read.done():
                read.cancel()
                status.code, status.message = (
                    grpc.StatusCode.UNAVAILABLE.value[0],
                    "the gateway stops; resume the stream",
                )
                break
            message = read.result()
    except grpc.aio.AioRpcError as error:
        status = GatewayError.from_rpc(error).status
    finally:
        stop.cancel()
        call.cancel()
    yield b"event: end\ndata: " + encode_json(status_as_dict(status)) + b"\n\n"


def _event(message: Any) -> bytes:
    """One message. JSON without spaces has no line ends, which would end the data."""
    names = message.DESCRIPTOR.fields_by_name
    position = next((getattr(message, name) for name in _POSITIONS if name in names), "")
    prefix = f"id: {position}\n" if position else ""
    fields = MessageToDict(message, always_print_fields_with_no_presence=True)
    return prefix.encode() + b"data: " + encode_json(fields) + b"\n\n"
