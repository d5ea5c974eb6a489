"""Metrics and traces of the driver: commands and connections.

The driver draws a random number for each command if a listener is registered, and it draws from the generator that
all of Python shares. Therefore listeners are registered only if a setting needs them.
"""

from collections.abc import Mapping
from typing import Any

from pymongo import monitoring

from audience_service.mongo.core.server_errors import TIMEOUT_CODES
from audience_service.observability import metrics
from audience_service.observability.tracing import end_span, start_command_span


class CommandMetrics(monitoring.CommandListener):
    """Counts the commands that end, and measures them."""

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Do nothing: commands count when they end."""

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Count a command with a response."""
        self._count(event.command_name, "ok", event.duration_micros)

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Count a command that failed."""
        self._count(event.command_name, outcome_of(event.failure), event.duration_micros)

    @staticmethod
    def _count(name: str, outcome: str, microseconds: int) -> None:
        metrics.COMMANDS.labels(name, outcome).inc()
        metrics.COMMAND_SECONDS.labels(name).observe(microseconds / 1e6)


class CommandSpans(monitoring.CommandListener):
    """A span for each command of a call: its name, collection and database, and none of its values."""

    def __init__(self) -> None:
        self._spans: dict[tuple[int, Any], Any] = {}

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Start a span."""
        name = event.command_name
        collection = event.command.get("collection" if name == "getMore" else name)
        attributes = {"db.system.name": "mongodb", "db.namespace": event.database_name, "db.operation.name": name}
        if isinstance(collection, str):
            attributes["db.collection.name"] = collection
        if span := start_command_span(f"{name} {collection}" if isinstance(collection, str) else name, attributes):
            self._spans[event.request_id, event.connection_id] = span

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """End the span."""
        if span := self._spans.pop((event.request_id, event.connection_id), None):
            end_span(span)

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """End the span as failed, with the server's code."""
        if span := self._spans.pop((event.request_id, event.connection_id), None):
            end_span(span, str(event.failure.get("code", "network")))


def outcome_of(failure: Mapping[str, Any]) -> str:
    """Return the outcome of a failed command: `timeout`, `error` for a refusal, or `network` without a response."""
    code = failure.get("code")
    return "network" if code is None else "timeout" if code in TIMEOUT_CODES else "error"


class PoolMetrics(monitoring.ConnectionPoolListener):
    """Counts the connections of a process."""

    def pool_created(self, event: monitoring.PoolCreatedEvent) -> None:
        """Do nothing."""

    def pool_ready(self, event: monitoring.PoolReadyEvent) -> None:
        """Do nothing."""

    def pool_cleared(self, event: monitoring.PoolClearedEvent) -> None:
        """Do nothing."""

    def pool_closed(self, event: monitoring.PoolClosedEvent) -> None:
        """Do nothing."""

    def connection_created(self, event: monitoring.ConnectionCreatedEvent) -> None:  # noqa: ARG002
        """Count an open connection."""
        metrics.CONNECTIONS_OPEN.inc()

    def connection_ready(self, event: monitoring.ConnectionReadyEvent) -> None:
        """Do nothing."""

    def connection_closed(self, event: monitoring.ConnectionClosedEvent) -> None:  # noqa: ARG002
        """Count a closed connection."""
        metrics.CONNECTIONS_OPEN.dec()

    def connection_check_out_started(self, event: monitoring.ConnectionCheckOutStartedEvent) -> None:
        """Do nothing."""

    def connection_check_out_failed(self, event: monitoring.ConnectionCheckOutFailedEvent) -> None:
        """Count a command without a connection."""
        metrics.CONNECTION_FAILURES.labels(event.reason).inc()

    def connection_checked_out(self, event: monitoring.ConnectionCheckedOutEvent) -> None:
        """Count a connection in use, and measure the wait for it."""
        metrics.CONNECTIONS_IN_USE.inc()
        metrics.CONNECTION_WAIT_SECONDS.observe(event.duration or 0.0)

    def connection_checked_in(self, event: monitoring.ConnectionCheckedInEvent) -> None:  # noqa: ARG002
        """Count a connection that is free again."""
        metrics.CONNECTIONS_IN_USE.dec()
