"""Snapshots as they stand in the database."""

from tests.conftest import Service

EARLY = 2.5
"""A deadline in seconds before a snapshot is made. The call keeps a second of it to answer in, its most."""


def rows(service: Service, org: str) -> int:
    """How many rows of snapshots the org has."""
    scope = {"$gte": f"{org}/", "$lt": f"{org}0"}
    return int(service.store.database["audience_member"].count_documents({"sk": scope, "expire_at": {"$ne": None}}))
