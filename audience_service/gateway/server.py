"""The HTTP server of the gateway: uvicorn, with limits on what a client can occupy."""

import asyncio
import signal
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from audience_service.gateway.app import Channels, Gateway, GatewayOptions, build_app
from audience_service.gateway.errors import GatewayError
from audience_service.gateway.json_text import encode_json
from audience_service.gateway.routes import RouteTable

_MAX_HEADER_BYTES = 32 * 1024
"""The most bytes of a request's headers, as the service takes metadata."""
_GRACE_SECONDS = 10
_MAX_RESPONSE_BYTES = 64 * 1024 * 1024
_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", _MAX_RESPONSE_BYTES),
    ("grpc.max_metadata_size", _MAX_HEADER_BYTES),
    ("grpc.absolute_max_metadata_size", _MAX_HEADER_BYTES),
    # A service that starts again is found within a second.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
)


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """The address and limits of a gateway process."""

    host: str
    port: int
    max_connections: int
    idle_timeout_seconds: float
    send_timeout_seconds: float
    """The time in which a client must receive what was written to it."""
    gateway: GatewayOptions


def open_channels(address: str, credentials: grpc.ChannelCredentials | None) -> Channels:
    """Channels to the service, with TLS if there are credentials. Call it in the event loop that uses them."""
    if credentials:
        return Channels(
            grpc.aio.secure_channel(address, credentials, options=_CHANNEL_OPTIONS),
            grpc.secure_channel(address, credentials, options=_CHANNEL_OPTIONS),
        )
    return Channels(
        grpc.aio.insecure_channel(address, options=_CHANNEL_OPTIONS),
        grpc.insecure_channel(address, options=_CHANNEL_OPTIONS),
    )


async def run_server(
    routes: RouteTable, channels: Channels, options: ServerOptions, on_start: Callable[[int], None]
) -> None:
    """Serve until SIGTERM or SIGINT, then complete the running requests. `on_start` gets the port.

    Raises OSError if the port is not available.
    """
    gateway = Gateway(routes, channels, options.gateway)
    config = uvicorn.Config(
        build_app(gateway, options.gateway),
        http=_protocol_of(options),
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=int(options.idle_timeout_seconds),
        timeout_graceful_shutdown=_GRACE_SECONDS,
        h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
    )
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    with socket.create_server((options.host, options.port), family=family, backlog=config.backlog) as listener:
        # Connections inherit it. asyncio sets it only if the socket names its protocol, which create_server omits;
        # without it a response waits 40 ms, because headers and body are written one after the other.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        on_start(listener.getsockname()[1])
        await _Server(config, gateway).serve(sockets=[listener])
    await channels.calls.close()
    channels.uploads.close()


class _Server(uvicorn.Server):
    """A server that ends its streams when it stops, and leaves the signal to the caller's exit code."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway) -> None:
        super().__init__(config)
        self._gateway = gateway

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Stop at SIGTERM and SIGINT."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        yield

    def _stop(self) -> None:
        self.should_exit = True
        self._gateway.stop()


class GatewayProtocol(H11Protocol):
    """A connection, which is closed if its client occupies it without need.

    1. A connection above the limit is closed at once.
    2. The headers of a request must arrive in time. So must the rest of a body that was refused.
    3. What is written must be received in time.
    """

    max_connections: int
    request_timeout_seconds: float
    send_timeout_seconds: float
    _receive_timer: asyncio.TimerHandle | None = None
    _send_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept the connection, or close it."""
        if len(self.connections) >= self.max_connections:
            self.transport = transport
            transport.abort()
            return
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # so that any unsent byte pauses writing
        self._start_receive_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Release the connection."""
        self._stop_receive_timer()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read what has arrived, and start or stop the timer."""
        super().data_received(data)
        waits_for_headers = self.conn.their_state is h11.IDLE
        discards_body = self.conn.their_state is h11.SEND_BODY and self.conn.our_state is h11.DONE
        if (waits_for_headers and self.conn.trailing_data[0]) or discards_body:
            self._start_receive_timer()
        else:
            self._stop_receive_timer()

    def on_response_complete(self) -> None:
        """Wait for the next request, and for the rest of a body that was refused."""
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            self._start_receive_timer()

    def pause_writing(self) -> None:
        """Wait until the client has received what was written."""
        if self._send_timer is None:
            self._send_timer = self.loop.call_later(self.send_timeout_seconds, self.transport.abort)
        super().pause_writing()

    def resume_writing(self) -> None:
        """Go on to write."""
        if self._send_timer:
            self._send_timer.cancel()
            self._send_timer = None
        if self.flow is not None:
            super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Respond to bytes that are no HTTP request, in the form of every error."""
        self._send_error(GatewayError.malformed(f"{msg} It is not HTTP/1.1, or its headers are too large"))

    def _start_receive_timer(self) -> None:
        if self._receive_timer is None:
            self._receive_timer = self.loop.call_later(self.request_timeout_seconds, self._give_up)

    def _stop_receive_timer(self) -> None:
        if self._receive_timer:
            self._receive_timer.cancel()
            self._receive_timer = None

    def _give_up(self) -> None:
        if self.conn.our_state is h11.IDLE and self.conn.trailing_data[0]:
            self._send_error(GatewayError.too_slow())
        else:
            self.transport.abort()

    def _send_error(self, error: GatewayError) -> None:
        body = encode_json(error.body)
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("connection", "close"),
        ]
        response = h11.Response(status_code=error.http_status, headers=headers, reason=b"")
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def _protocol_of(options: ServerOptions) -> type[GatewayProtocol]:
    """The class of connections with these limits."""
    return type(
        "LimitedProtocol",
        (GatewayProtocol,),
        {
            "max_connections": options.max_connections,
            "request_timeout_seconds": options.gateway.request_timeout_seconds,
            "send_timeout_seconds": options.send_timeout_seconds,
        },
    )
