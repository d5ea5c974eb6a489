"""The ASGI application of the gateway: a request finds its route, becomes an RPC, and its response becomes JSON."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import grpc
import structlog
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from audience_service.gateway.bodies import cancelled_on_disconnect, read_body
from audience_service.gateway.errors import GatewayError
from audience_service.gateway.event_streams import stream_events
from audience_service.gateway.json_text import encode_json
from audience_service.gateway.requests import decode
from audience_service.gateway.routes import Route, RouteTable
from audience_service.gateway.uploads import upload

METADATA_HEADERS = ("authorization", "orgid", "x-request-id", "traceparent", "tracestate")
"""The headers that become metadata of the RPC. The service refuses one that is set twice."""
OPENAPI_PATH = "/openapi.json"
_REQUEST_HEADERS = (*METADATA_HEADERS, "content-type", "content-encoding", "last-event-id")
_RESPONSE_HEADERS = ("allow", "retry-after", "www-authenticate")
_CORS_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE")
_MIN_GZIP_BYTES = 1_000
_MAX_INLINE_BYTES = 64 * 1024
"""Larger bodies are converted in a thread, so that other requests go on."""
_CLIENT_CLOSED_REQUEST = 499

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """The limits of a gateway process."""

    cors_origins: Sequence[str] = ()
    max_body_bytes: int = 4 * 1024 * 1024
    request_timeout_seconds: float = 10.0
    """The time in which a client must send a request."""
    response_timeout_seconds: float = 35.0
    """The time in which the service must respond to a unary RPC. Longer than the service's own deadline."""
    chunk_timeout_seconds: float = 60.0
    """The time in which a client must send the next piece of an upload."""


@dataclass(frozen=True, slots=True)
class Channels:
    """The connections to the service: one of grpc.aio for most RPCs, and one of synchronous grpc for uploads."""

    calls: grpc.aio.Channel
    uploads: grpc.Channel


class Gateway:
    """The application without its middleware."""

    def __init__(self, routes: RouteTable, channels: Channels, options: GatewayOptions) -> None:
        self._routes = routes
        self._channel = channels.calls
        self._upload_channel = channels.uploads
        self._options = options
        self._openapi = files(__package__).joinpath("openapi.json").read_bytes()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End the open streams, so that the server can stop."""
        self._stopping.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        request = Request(scope, receive)
        try:
            response = await self._respond(request)
        except GatewayError as error:
            response = _json_response(error.body, error.http_status, error.headers)
        except ClientDisconnect:
            response = Response(status_code=_CLIENT_CLOSED_REQUEST)
        except Exception as error:
            _log.error("internal error of the gateway", path=scope["path"], exc_info=error)
            response = _json_response(GatewayError.internal().body, GatewayError.internal().http_status)
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        raw_path = request.scope["raw_path"]
        if raw_path == OPENAPI_PATH.encode() and request.method in ("GET", "HEAD"):
            return Response(self._openapi, media_type="application/json")
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"allow": ", ".join(self._routes.allowed(raw_path))})
        route, path = self._routes.find(request.method, raw_path)
        metadata = _read_metadata(request)
        options = self._options
        if route.method.client_streaming:
            return _message_response(
                await upload(self._upload_channel, path, request, metadata, options.chunk_timeout_seconds)
            )
        body = await read_body(request, options.max_body_bytes, options.request_timeout_seconds)
        arguments = (route, path, request.scope["query_string"], body)
        message = decode(*arguments) if len(body) <= _MAX_INLINE_BYTES else await asyncio.to_thread(decode, *arguments)
        if route.method.server_streaming:
            return await stream_events(self._channel, route, message, request, metadata, self._stopping)
        result = await self._call(route, message, request, metadata)
        if result.ByteSize() <= _MAX_INLINE_BYTES:
            return _message_response(result)
        return await asyncio.to_thread(_message_response, result)

    async def _call(
        self, route: Route, message: Message, request: Request, metadata: Sequence[tuple[str, str]]
    ) -> Message:
        """The response of a unary RPC, which is cancelled if the client disconnects."""
        method = self._channel.unary_unary(
            route.rpc_path, type(message).SerializeToString, route.response_class.FromString
        )
        call: Any = method(message, metadata=metadata)
        try:
            async with cancelled_on_disconnect(request, call), asyncio.timeout(self._options.response_timeout_seconds):
                response: Message = await call
                return response
        except grpc.aio.AioRpcError as error:
            raise GatewayError.from_rpc(error) from None
        except TimeoutError:
            raise GatewayError.no_response() from None
        finally:
            call.cancel()


def build_app(gateway: Gateway, options: GatewayOptions) -> ASGIApp:
    """The gateway with CORS for the origins of the options, and compressed responses for clients that accept them."""
    app: ASGIApp = GZipMiddleware(gateway, minimum_size=_MIN_GZIP_BYTES, compresslevel=1)
    if options.cors_origins:
        app = CORSMiddleware(
            app,
            allow_origins=options.cors_origins,
            allow_methods=_CORS_METHODS,
            allow_headers=_REQUEST_HEADERS,
            expose_headers=_RESPONSE_HEADERS,
        )
    return app


def _read_metadata(request: Request) -> list[tuple[str, str]]:
    """The metadata of the RPC. Raises GatewayError for a value that gRPC cannot send."""
    metadata = []
    for name in METADATA_HEADERS:
        for value in request.headers.getlist(name):
            if not (value.isascii() and value.isprintable()):
                raise GatewayError.malformed(f"the header {name} has characters that are not printable ASCII")
            metadata.append((name, value))
    return metadata


def _message_response(message: Message) -> Response:
    """A message as JSON, with its zeros and empty lists."""
    return _json_response(MessageToDict(message, always_print_fields_with_no_presence=True))


def _json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(encode_json(value), status, headers, media_type="application/json")
