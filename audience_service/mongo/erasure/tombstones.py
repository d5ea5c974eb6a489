"""The erased people of all orgs, as a process knows them: read at the first use, then once per second.

A read returns only tombstones that were written since the last one, so it costs the same for any number of them.
"""

import threading
import time
from contextvars import Context
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo import ReadPreference
from pymongo.database import Database

from audience_service.domain.core.clock import now
from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import AudienceError, OutOfTime, StoreUnavailable
from audience_service.domain.erasure.sealing import PersonSealer
from audience_service.mongo.core.collections import ERASURES
from audience_service.mongo.core.errors import with_deadline
from audience_service.mongo.core.scope import org_of

_MAX_AGE_SECONDS = 1.0
_READ_TIMEOUT_SECONDS = 3.0  # calls that wait for a read use tombstones of this age, so PROPAGATION_SECONDS is longer
_OVERLAP = timedelta(minutes=1)
"""Tombstones are read again for this long: a write becomes visible late, and the clocks of database nodes differ."""
_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Tombstones:
    """The sort keys and keyed hashes of erased people, at most a second old, or as old as a read takes."""

    def __init__(self, database: Database[dict[str, Any]], sealer: PersonSealer | None) -> None:
        # A stale secondary would lack the newest tombstones.
        self._database = database.with_options(read_preference=ReadPreference.PRIMARY)
        self._collection = self._database[ERASURES]
        self._sealer = sealer
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._changed_at = _UNIX_EPOCH
        self._sks: dict[str, frozenset[str]] = {}
        self._keys: dict[str, frozenset[bytes]] = {}
        self._known: dict[str, bytes] = {}
        self._version = 0
        self._unreadable: dict[str, StoreUnavailable] = {}
        self._failed_at, self._failure = float("-inf"), AudienceError("")

    def sks(self, org: str) -> frozenset[str]:
        """Return the sort keys of an org's erased contacts. Raises StoreUnavailable, OutOfTime."""
        self._refresh_for(org)
        return self._sks.get(org, frozenset())

    def keys(self, org: str) -> frozenset[bytes]:
        """Return the keyed hashes of an org's erased people. Raises StoreUnavailable, OutOfTime."""
        self._refresh_for(org)
        return self._keys.get(org, frozenset())

    def version(self) -> int:
        """Return a number that grows with each erasure. Raises StoreUnavailable, OutOfTime."""
        self._refresh()
        return self._version

    def expire(self) -> None:
        """Read the tombstones at the next use, whatever their age. Waits for a read that may have begun too early."""
        with self._lock:
            self._read_at = float("-inf")

    def _refresh_for(self, org: str) -> None:
        """Refresh. A tombstone that this process cannot read stops the calls of its org alone."""
        self._refresh()
        if error := self._unreadable.get(org):
            raise error

    def _refresh(self) -> None:
        asked_at = time.monotonic()
        oldest = asked_at - _MAX_AGE_SECONDS
        if self._read_at > oldest:
            return
        with self._lock:
            if self._read_at > oldest:
                return  # by the read that this call waited for, however long it took
            if self._failed_at >= asked_at:
                # A read failed while this call waited for it. A later call tries again, since the cause may be gone.
                raise self._failure.with_traceback(None)
            began_at = time.monotonic()
            try:
                # All waiting calls share the read. The deadline of the one that makes it, a context variable of the
                # driver, must not end it.
                Context().run(self._read)
            except AudienceError as error:
                self._failed_at, self._failure = time.monotonic(), error
                raise
            self._read_at = began_at

    def _read(self) -> None:
        """Add the tombstones in the order of their changes, so that a read which takes too long is continued."""
        recent = {"changed_at": {"$gte": self._changed_at - _OVERLAP}}
        fields = {"sk": 1, "keys": 1, "sealed": 1, "changed_at": 1}
        try:
            with with_deadline(self._database, Deadline.after(_READ_TIMEOUT_SECONDS)):
                for document in self._collection.find(recent, fields, sort=[("changed_at", 1)]):
                    self._add(document)
        except OutOfTime as error:
            # Each call that waited has a deadline of its own, which may not have passed.
            raise StoreUnavailable(
                f"the database did not return the erased people within {_READ_TIMEOUT_SECONDS:g} s"
            ) from error

    def _add(self, document: dict[str, Any]) -> None:
        # A writer whose clock is ahead must not hide the tombstones of others.
        self._changed_at = max(self._changed_at, min(document["changed_at"], now()))
        if self._known.get(document["_id"]) == document["sealed"]:
            return
        org = org_of(document["sk"])
        try:
            if self._sealer is None:
                raise StoreUnavailable(
                    "people were erased with an AUDIENCE_HASH_KEY, and this process has none; set it"
                )
            person = self._sealer.unseal(bytes(document["sealed"]))
        except StoreUnavailable as error:
            self._unreadable[org] = error
            return
        self._sks[org] = self._sks.get(org, frozenset()).union(person.sks)
        self._keys[org] = self._keys.get(org, frozenset()).union(map(bytes, document["keys"]))
        self._known[document["_id"]] = document["sealed"]
        self._version += 1
