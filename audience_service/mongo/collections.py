"""The collections by name, and how they are read."""

from typing import Any

from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import ConfigurationError, InvalidName

SEGMENTS = "segment"
"""Segments, in the platform's record envelope: like every collection of the platform, named for the datatype."""

LISTS = "audience_member"
"""Static lists: {_id: "<audience>/<sk>", audience, pk, sk} for each record on one; pk and sk are the record's own, so
that the tenant scope, the order and the join with the record rest on sk here too."""

_SERVER_SELECTION_MS = 3_000


def connect(uri: str, database: str) -> Database[dict[str, Any]]:
    """The database behind a URI. Nothing is sent yet, so that the service starts while the database is away.

    Replica sets, sharded clusters, TLS and credentials are the URI's to say, and so are the timeouts set here. Writes
    wait for a majority and reads see what a majority has: a membership that was told is not rolled back.

    Raises ValueError for a URI that is none, or whose hosts the name service does not know.
    """
    try:
        client: MongoClient[dict[str, Any]] = MongoClient(
            uri, tz_aware=True, appname="audience-service", **_defaults(uri), connect=False
        )
        return client[database]
    except (ConfigurationError, InvalidName) as error:
        raise ValueError(str(error)) from error


def _defaults(uri: str) -> dict[str, Any]:
    """Options that hold where the URI does not set them; the driver would let keywords win over the URI."""
    defaults = {
        "serverSelectionTimeoutMS": _SERVER_SELECTION_MS,
        "connectTimeoutMS": _SERVER_SELECTION_MS,
        "w": "majority",
        "readConcernLevel": "majority",
    }
    return {name: value for name, value in defaults.items() if name.lower() + "=" not in uri.lower()}
