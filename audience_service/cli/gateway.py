"""`audience-service gateway`: JSON over HTTP in front of a running server."""

import asyncio

import click
import grpc
import structlog

from audience_service.cli.client import channel_credentials, server_address
from audience_service.cli.log import configure_logs
from audience_service.cli.malloc import tune_gc
from audience_service.gateway.app import GatewayOptions
from audience_service.gateway.routes import RouteTable
from audience_service.gateway.server import ServerOptions, open_channels, run_server
from audience_service.rpc.descriptors import SERVICES
from audience_service.settings import Settings

_RESPONSE_MARGIN_SECONDS = 5.0
"""The service ends a call first, with an error that says why."""

_log = structlog.get_logger()


@click.command()
def gateway() -> None:
    """Serve JSON over HTTP, for a running server.

    It listens at AUDIENCE_HTTP_LISTEN until SIGTERM or SIGINT, and calls the server at AUDIENCE_ADDRESS, or else at
    AUDIENCE_LISTEN.
    """
    settings = Settings.load()
    configure_logs(settings.log_format, settings.log_level)
    try:
        asyncio.run(_serve(settings, channel_credentials(settings)))
    except OSError as error:
        raise click.ClickException(f"AUDIENCE_HTTP_LISTEN: cannot serve on {settings.http_listen}: {error}") from None


async def _serve(settings: Settings, credentials: grpc.ChannelCredentials | None) -> None:
    host, _, port = settings.http_listen.rpartition(":")
    service = server_address(settings)
    options = ServerOptions(
        host.strip("[]"),
        int(port),
        settings.http_max_connections,
        settings.http_idle_timeout_seconds,
        settings.stream_send_timeout_seconds,
        GatewayOptions(
            settings.http_cors_origins,
            settings.http_max_body_bytes,
            settings.request_timeout_seconds,
            settings.unary_timeout_seconds + _RESPONSE_MARGIN_SECONDS,
            settings.stream_send_timeout_seconds,
        ),
    )

    def log_start(port: int) -> None:
        _log.info("serving HTTP", address=f"http://{host}:{port}", service=service)

    tune_gc()
    await run_server(RouteTable(SERVICES), open_channels(service, credentials), options, log_start)
