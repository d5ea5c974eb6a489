"""The connection to MongoDB."""

import warnings
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import ConfigurationError, InvalidName
from pymongo.monitoring import CommandListener, ConnectionPoolListener

Listener = CommandListener | ConnectionPoolListener

_SERVER_SELECTION_TIMEOUT_MS = 3_000
_CONNECT_TIMEOUT_MS = 2_000
_HEARTBEAT_FREQUENCY_MS = 1_000
_MAX_CONNECTING = 8
_MAX_IDLE_TIME_MS = 300_000


def connect(uri: str, database: str, listeners: Sequence[Listener] = ()) -> Database[dict[str, Any]]:
    """Return the database that a URI names.

    The driver connects on first use, so the service starts even while the database is unavailable. The URI decides
    about replica sets, sharded clusters, TLS and credentials. It also overrides the timeouts below.

    Writes wait for a majority, and reads see only what a majority has. A membership that a caller has received is
    therefore never rolled back.

    `listeners` observe the commands and connections of the driver.

    Raises ValueError for a malformed URI, for unknown options and values, and for hosts that the name
    service does not know.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # the driver ignores an option that it does not know
            client: MongoClient[dict[str, Any]] = MongoClient(
                uri,
                tz_aware=True,
                datetime_conversion="DATETIME_AUTO",  # dates past the year 9999 are read as DatetimeMS
                appname="audience-service",
                connect=False,
                event_listeners=listeners,
                **_default_options(uri),
            )
        return client[database]
    except (ConfigurationError, InvalidName, UserWarning) as error:
        raise ValueError(str(error).partition(" or maybe a camelCase")[0]) from error


def _default_options(uri: str) -> dict[str, Any]:
    """Return the defaults that the URI does not set. In the driver, keywords override the URI."""
    defaults = {
        "serverSelectionTimeoutMS": _SERVER_SELECTION_TIMEOUT_MS,
        # A network that loses packets is noticed by the monitor alone, which then discards every connection. It polls:
        # a streaming monitor waits for connectTimeoutMS and heartbeatFrequencyMS (10 s by default) longer. Until then
        # each dead connection costs a call its deadline, also after the network is back.
        "serverMonitoringMode": "poll",
        "heartbeatFrequencyMS": _HEARTBEAT_FREQUENCY_MS,
        "connectTimeoutMS": _CONNECT_TIMEOUT_MS,
        # Discarded connections are replaced at once. The default of 2 lets calls queue beyond their deadlines.
        "maxConnecting": _MAX_CONNECTING,
        "w": "majority",
        "readConcernLevel": "majority",
        # With a deadline, the driver would repeat a failed read until the deadline. Callers retry instead.
        "retryReads": False,
        "maxIdleTimeMS": _MAX_IDLE_TIME_MS,
    }
    given = {name.lower() for name in parse_qs(urlsplit(uri).query, keep_blank_values=True)}
    return {name: value for name, value in defaults.items() if name.lower() not in given}
