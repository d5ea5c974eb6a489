"""Snapshot reads: whether a deployment supports them, and which instant a command has read."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bson import Timestamp
from pymongo.topology_description import TopologyDescription

_REPLICATED_SERVER_TYPES = frozenset(("RSPrimary", "RSSecondary", "Mongos", "LoadBalancer"))


def supports_snapshot_reads(topology: TopologyDescription) -> bool:
    """Return whether reads may have the read concern "snapshot".

    Replica sets and sharded clusters keep the history that it needs; a standalone refuses it. The types of the servers
    decide, because a direct connection to a member of a replica set has a topology of a single server.
    """
    return any(
        server.server_type_name in _REPLICATED_SERVER_TYPES for server in topology.server_descriptions().values()
    )


def cluster_time_of(answer: Mapping[str, Any]) -> datetime | None:
    """Return the instant that a command with the read concern "snapshot" has read, in whole seconds, or None.

    MongoDB returns it as `atClusterTime`: inside `cursor` for commands that return a cursor, else at the top.
    """
    timestamp = answer.get("cursor", {}).get("atClusterTime", answer.get("atClusterTime"))
    return timestamp.as_datetime() if isinstance(timestamp, Timestamp) else None
