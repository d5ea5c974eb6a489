"""What an operator must know of a database before the service runs on it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pymongo.errors import PyMongoError

from audience_service.domain.core.clock import now
from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import AudienceError
from audience_service.mongo.core.errors import describe_outage, with_deadline
from audience_service.mongo.core.privileges import missing_privileges, required_privileges
from audience_service.mongo.store import Store

_TIMEOUT_SECONDS = 10.0
_MIN_VERSION = (5, 0)
_SKEW_WARNING_SECONDS, _SKEW_FAILURE_SECONDS = 1.0, 10.0
"""Leases of watches last 15 s by default, and compare the clocks of processes."""


class Level(StrEnum):
    """How serious a finding is: `fail` prevents correct work."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check, and for a problem what to do."""

    check: str
    level: Level
    message: str


def diagnose(store: Store, datatypes: Sequence[str], related: Sequence[str]) -> Iterator[Finding]:
    """Yield a finding for each check of the database. If it cannot be reached, there are no others."""
    if outage := store.find_outage():
        yield Finding("database", Level.FAIL, f"{outage}; check AUDIENCE_MONGODB_URI, the network and the credentials")
        return
    yield Finding("database", Level.OK, f"{store.database.name} answers")
    checks: dict[str, Callable[[Store], tuple[Level, str]]] = {
        "version": _check_version,
        "deployment": _check_deployment,
        "clock": _check_clock,
        "collation": lambda store: _check_collation(store, [*datatypes, *related]),
        "indexes": lambda store: _check_indexes(store, datatypes, related),
        "privileges": lambda store: _check_privileges(store, datatypes, related),
    }
    for name, check in checks.items():
        try:
            level, message = check(store)
        except (AudienceError, PyMongoError) as error:
            level, message = Level.FAIL, f"the check failed: {describe_outage(error.__cause__ or error)}"
        yield Finding(name, level, message)


def _command(store: Store, name: str, **options: Any) -> dict[str, Any]:
    with with_deadline(store.database, Deadline.after(_TIMEOUT_SECONDS)):
        return dict(store.database.command(name, codec_options=store.database.codec_options, **options))


def _check_version(store: Store) -> tuple[Level, str]:
    version = str(_command(store, "buildInfo")["version"])
    if tuple(int(part) for part in version.split(".")[:2]) < _MIN_VERSION:
        return Level.FAIL, f"MongoDB {version} is older than 5.0; upgrade it"
    return Level.OK, f"MongoDB {version}"


def _check_deployment(store: Store) -> tuple[Level, str]:
    hello = _command(store, "hello")
    if hello.get("msg") == "isdbgrid":
        return Level.OK, "sharded cluster, with change streams"
    if name := hello.get("setName"):
        return Level.OK, f"replica set {name}, with change streams"
    return Level.WARN, (
        "standalone: watches scan instead of following change streams, and snapshots are of no single instant; "
        "use a replica set"
    )


def _check_clock(store: Store) -> tuple[Level, str]:
    before = now()
    server_time = _command(store, "hello")["localTime"]
    after = now()
    skew = abs((server_time - before - (after - before) / 2).total_seconds())
    if skew < _SKEW_WARNING_SECONDS:
        return Level.OK, f"{skew:.1f} s from the database's"
    level = Level.FAIL if skew >= _SKEW_FAILURE_SECONDS else Level.WARN
    return level, f"{skew:.1f} s from the database's; synchronise both by NTP, since leases and expiry compare clocks"


def _check_collation(store: Store, collections: Sequence[str]) -> tuple[Level, str]:
    if unsafe := store.collated_collections(collections):
        names = ", ".join(unsafe)
        return Level.FAIL, f"{names} have a default collation, which could expose an org's records; create them without"
    return Level.OK, "no collection has a default collation"


def _check_indexes(store: Store, datatypes: Sequence[str], related: Sequence[str]) -> tuple[Level, str]:
    if missing := store.missing_indexes(datatypes, related):
        return Level.FAIL, f"{len(missing)} are missing, such as {missing[0]}; run `audience-service indexes`"
    return Level.OK, "all exist"


def _check_privileges(store: Store, datatypes: Sequence[str], related: Sequence[str]) -> tuple[Level, str]:
    status = _command(store, "connectionStatus", showPrivileges=True)["authInfo"]
    if not status.get("authenticatedUsers"):
        return (
            Level.WARN,
            "the connection has no user; enable access control, and create one with deploy/mongodb/role.js",
        )
    required = required_privileges(datatypes, related)
    granted = status.get("authenticatedUserPrivileges", [])
    missing = missing_privileges(granted, store.database.name, required)
    if missing:
        text = "; ".join(f"{name or 'the database'}: {', '.join(actions)}" for name, actions in missing.items())
        return Level.FAIL, f"missing on {text}; run deploy/mongodb/role.js"
    return Level.OK, "the user has every action that the service needs"
