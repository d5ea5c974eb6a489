"""Snapshots in the database and in responses."""

from typing import Any

from audience_service.pb.audience.v1.resources_pb2 import CreationState
from tests.conftest import Service


def state_of(snapshot: Any) -> str:
    """`CREATING`, `READY` or `FAILED`."""
    return CreationState.Name(snapshot.creation_state).removeprefix("CREATION_STATE_")


def rows(service: Service, org: str) -> int:
    """How many rows of snapshots the org has."""
    scope = {"$gte": f"{org}/", "$lt": f"{org}0"}
    return int(service.store.database["audience_member"].count_documents({"sk": scope, "expire_at": {"$ne": None}}))
