"""Snapshots as they stand in the database."""

from tests.conftest import Service


def rows(service: Service, org: str) -> int:
    """How many rows of snapshots the org has."""
    scope = {"$gte": f"{org}/", "$lt": f"{org}0"}
    return int(service.store.database["audience_member"].count_documents({"sk": scope, "expire_at": {"$ne": None}}))
