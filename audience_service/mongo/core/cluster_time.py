"""Whether a deployment can answer a command as of one instant, and as of which."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bson import Timestamp
from pymongo.topology_description import TopologyDescription

_REPLICATED_SERVER_TYPES = frozenset(("RSPrimary", "RSSecondary", "Mongos", "LoadBalancer"))


def supports_snapshot_reads(topology: TopologyDescription) -> bool:
    """Whether reads may ask for the concern "snapshot": replica sets and sharded clusters keep the history for it.

    A standalone refuses it. By the kind of the servers, since a member of a replica set that is connected to directly
    makes a topology of a single server.
    """
    return any(
        server.server_type_name in _REPLICATED_SERVER_TYPES for server in topology.server_descriptions().values()
    )


def cluster_time_of(answer: Mapping[str, Any]) -> datetime | None:
    """The instant as of which a command with the concern "snapshot" has read, to the second; None where it says none.

    MongoDB tells it as `atClusterTime`, of commands that return a cursor in the cursor.
    """
    timestamp = answer.get("cursor", {}).get("atClusterTime", answer.get("atClusterTime"))
    return timestamp.as_datetime() if isinstance(timestamp, Timestamp) else None
