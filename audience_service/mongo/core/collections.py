"""The collections by name, and how they are read."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import ConfigurationError, InvalidName

SEGMENTS = "segment"
"""Segments, in the platform's record envelope: like every collection of the platform, named for the datatype."""

LISTS = "audience_member"
"""Static lists: {_id: "<audience>/<sk>", audience, pk, sk} for each record on one; pk and sk are the record's own, so
that the tenant scope, the order and the join with the record rest on sk here too. Snapshots likewise, with expire_at:
their `audience` is "<snapshot>.<attempt>", with "!<reason>" behind it for those that were left out."""

SNAPSHOTS = "audience_snapshot"
"""Manifests of snapshots in the platform's envelope, {_id: sk, ...}; mongo/snapshots/documents.py shows the rest."""

CUSTOM_AUDIENCES = "custom"
"""Custom audiences, in the platform's envelope, {_id: sk, ...}; mongo/custom_audiences/documents.py shows the rest. Their lists
lie among the static ones, with "<audience>.<8 characters>" for `audience`, and `since` when an upload put them on."""

UPLOADS = "audience_upload"
"""How far uploads have come; mongo/uploads/documents.py shows them. The contacts that one has found lie among the lists,
with the `line` of the file that put them there."""

UPLOAD_ROWS = "audience_upload_row"
"""Rows of uploads that have matched nobody; mongo/uploads/unmatched_rows.py shows them."""

IDENTIFIERS = "audience_identifier"
"""What records are matched by: {_id: "<rule>/<sk>", rule, pk, sk, source, key, expire_at}; `key` is a digest of an
email or phone number, `source` a hash of all that it is made of."""

VERSIONS = "segment_version"
"""Segments as they were: each record before it was written over, to the letter but for `_id`, "<sk>/<version>", and
for the filter, which those with `omits_filter` have from the next one above."""

USES = "audience_use"
"""Registered uses: {_id: sk, sk: "<org>/audience_use/<audience>/<kind>/<user>", audience, kind, user, description,
author, createdate, calls}; `calls` is how often it was registered."""

PARTITIONS = "audience_partition"
"""Where populations are cut into parts: {_id: sk, sk: "<org>/audience_partition/<digest>/<count>", keys, used_at,
expire_at}; a part ends with a key, up to the last, which has no end."""

WATCHES = "audience_watch"
"""Watched audiences, one record each: {_id: sk, sk: "<org>/audience_watch/<audience>", audience, wanted_until, lease,
lease_until, generation, seq, as_of, definition, failure, garbage}; domain/watch/model.py says what they mean."""

EVENTS = "audience_event"
"""Who entered and exited: {_id: "<generation>/<seq in 12 digits>", seq, pk, sk, change, cause, at}; pk and sk are the
record's own."""

MEMBER_STATES = "audience_member_state"
"""Who is in by the ledger: {_id: "<generation>/<sk>", pk, sk, member, seq}; who has exited stays, with `member` false.
`seq` is the event that says so, 0 of those who were in when the generation began."""

PLATFORM_IDS = "audience_platform_ids"
"""The ids that ad platforms know nodes of the taxonomies by: {_id: platform, version, imported_at, files, ids: {node:
id}, unlinked}. They are no tenant's and have no sk."""

SUBSCRIBERS = "subscriber"
"""The platform's records of who may be reached: {data: {email, phone, channel, status}}."""

_SERVER_SELECTION_TIMEOUT_MS = 3_000
_MAX_IDLE_TIME_MS = 300_000


def connect(uri: str, database: str) -> Database[dict[str, Any]]:
    """The database behind a URI. Nothing is sent yet, so that the service starts while the database is away.

    Replica sets, sharded clusters, TLS and credentials are the URI's to say, and so are the timeouts set here. Writes
    wait for a majority and reads see what a majority has: a membership that was told is not rolled back.

    Raises ValueError for a URI that is none, or whose hosts the name service does not know.
    """
    try:
        client: MongoClient[dict[str, Any]] = MongoClient(
            uri,
            tz_aware=True,
            datetime_conversion="DATETIME_AUTO",  # dates past the year 9999 are read as DatetimeMS
            appname="audience-service",
            connect=False,
            **_default_options(uri),
        )
        return client[database]
    except (ConfigurationError, InvalidName) as error:
        raise ValueError(str(error)) from error


def _default_options(uri: str) -> dict[str, Any]:
    """Options that hold where the URI does not set them; the driver would let keywords win over the URI."""
    defaults = {
        "serverSelectionTimeoutMS": _SERVER_SELECTION_TIMEOUT_MS,
        "connectTimeoutMS": _SERVER_SELECTION_TIMEOUT_MS,
        "w": "majority",
        "readConcernLevel": "majority",
        # Under a deadline the driver would repeat a read until the deadline passes; callers are told to retry instead.
        "retryReads": False,
        "maxIdleTimeMS": _MAX_IDLE_TIME_MS,
    }
    given = {name.lower() for name in parse_qs(urlsplit(uri).query, keep_blank_values=True)}
    return {name: value for name, value in defaults.items() if name.lower() not in given}
