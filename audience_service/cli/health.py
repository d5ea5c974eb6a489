"""`audience-service health`: ask a running server whether it can answer, as an orchestrator does."""

from typing import Any

import click
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from audience_service.cli.client import server_address
from audience_service.settings import Settings


@click.command()
@click.option("--timeout", default=3.0, show_default=True, type=click.FloatRange(0.1), help="Seconds to wait.")
def health(*, timeout: float) -> None:
    """Ask the server at AUDIENCE_LISTEN for its health. Exit 0 if it is SERVING, else 1."""
    address = server_address(Settings.load())
    try:
        with grpc.insecure_channel(address) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout)
    except grpc.RpcError as error:
        raise click.ClickException(f"{address}: {error.code().name}") from None
    name = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    click.echo(f"{address}: {name}")
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise SystemExit(1)
