"""`audience-service health`: the health of a running server, as an orchestrator checks it."""

from typing import Any

import click
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from audience_service.cli.client import open_channel, server_address
from audience_service.settings import ConnectionSettings


@click.command()
@click.option("--timeout", default=3.0, show_default=True, type=click.FloatRange(0.1), help="Timeout in seconds.")
def health(*, timeout: float) -> None:
    """Check the health of the server. Exits with 0 if it is SERVING, otherwise with 1."""
    settings = ConnectionSettings.load()
    address = server_address(settings)
    try:
        with open_channel(settings) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            response = stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout)
    except grpc.RpcError as error:
        raise click.ClickException(f"{address}: {error.code().name}") from None
    name = health_pb2.HealthCheckResponse.ServingStatus.Name(response.status)
    click.echo(f"{address}: {name}")
    if response.status != health_pb2.HealthCheckResponse.SERVING:
        raise SystemExit(1)
