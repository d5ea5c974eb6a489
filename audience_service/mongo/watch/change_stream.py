"""The ChangeStream on MongoDB's change streams: one stream per datatype and process, for all orgs.

Replica sets and sharded clusters have change streams. On other deployments no subscription streams, and watched
audiences use full scans. A deployment may refuse a stream once, for example during an upgrade, so a refused stream is
tried again, less and less often.

A stream passes each change to the subscriptions of the record's org, by the record's sk. The event of a removed record
has no sk, so every subscription becomes incomplete, which causes a full scan. The platform does not remove records: it
marks them as deleted.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import structlog
from pymongo.database import Database
from pymongo.errors import OperationFailure, PyMongoError

from audience_service.domain.core.clock import now
from audience_service.domain.watch.model import ChangedKeys
from audience_service.mongo.core.scope import org_of
from audience_service.mongo.core.server_errors import CHANGE_STREAM_CODES

_WRITES = frozenset(("insert", "update", "replace"))
_STAGES = [{"$project": {"operationType": 1, "clusterTime": 1, "documentKey.sk": 1, "fullDocument.sk": 1}}]
_AWAIT_MS = 250
_CLOSE_SECONDS = 2.0
_MAX_RETRY_SECONDS = 60.0
"""The longest interval between attempts to open a stream that the deployment refuses."""

_log = structlog.get_logger()


class MongoChangeStreams:
    """The change streams of a process. A stream opens with the first subscription to its datatype, and stays open."""

    def __init__(
        self,
        database: Database[dict[str, Any]],
        notify: Callable[[], None],
        clock: Callable[[], datetime] = now,
        *,
        retry_seconds: float = 1.0,
        max_keys: int = 10_000,
    ) -> None:
        """Read the datatypes of `database`, and call `notify` if a subscription has pending changes.

        A broken stream is reopened after `retry_seconds`. A subscription with over `max_keys` keys is incomplete.
        """
        self._database = database
        self._notify = notify
        self._clock = clock
        self._retry_seconds = retry_seconds
        self._max_keys = max_keys
        self._streams: dict[str, _Stream] = {}
        self._lock = threading.Lock()

    def subscribe(self, org: str, datatype: str) -> "_Subscription":
        """The first subscription to a datatype opens its stream, in the background."""
        with self._lock:
            if datatype not in self._streams:
                self._streams[datatype] = _Stream(
                    self._database, datatype, self._notify, self._clock, self._retry_seconds, self._max_keys
                )
                self._streams[datatype].start()
            return self._streams[datatype].subscribe(org)

    def is_reading(self, datatype: str) -> bool:
        """Whether the stream of a datatype is open or reopens; False while the deployment refuses it."""
        return datatype in self._streams and not self._streams[datatype].is_refused

    def close(self) -> None:
        """Stop every stream. Each may take the time of one wait for changes."""
        with self._lock:
            for stream in self._streams.values():
                stream.close()


class _Subscription:
    """The changes in an org since the last `drain`. The stream's lock guards `keys` and `is_complete`."""

    def __init__(self, stream: "_Stream", org: str) -> None:
        self._stream = stream
        self.org = org
        self.datatype = stream.datatype
        self.keys: set[str] = set()
        self.is_complete = False

    @property
    def is_streaming(self) -> bool:
        return self._stream.is_open

    @property
    def has_pending(self) -> bool:
        return bool(self.keys) or (self.is_streaming and not self.is_complete)

    def drain(self) -> ChangedKeys:
        return self._stream.drain(self)

    def close(self) -> None:
        self._stream.unsubscribe(self)


class _Stream:
    """A thread that reads the changes of one datatype."""

    def __init__(
        self,
        database: Database[dict[str, Any]],
        datatype: str,
        notify: Callable[[], None],
        clock: Callable[[], datetime],
        retry_seconds: float,
        max_keys: int,
    ) -> None:
        self.datatype = datatype
        self.is_open = False
        self.is_refused = False
        self._collection = database[datatype]
        self._notify = notify
        self._clock = clock
        self._retry_seconds = retry_seconds
        self._max_keys = max_keys
        self._complete_at: datetime | None = None
        self._subscriptions: defaultdict[str, set[_Subscription]] = defaultdict(set)
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"change-stream-{datatype}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join(_CLOSE_SECONDS)

    def subscribe(self, org: str) -> _Subscription:
        subscription = _Subscription(self, org)
        with self._lock:
            self._subscriptions[org].add(subscription)
        return subscription

    def unsubscribe(self, subscription: _Subscription) -> None:
        with self._lock:
            self._subscriptions[subscription.org].discard(subscription)
            if not self._subscriptions[subscription.org]:
                del self._subscriptions[subscription.org]

    def drain(self, subscription: _Subscription) -> ChangedKeys:
        with self._lock:
            complete = subscription.is_complete and self.is_open
            drained = ChangedKeys(frozenset(subscription.keys), complete, self._complete_at if complete else None)
            subscription.keys = set()
            subscription.is_complete = self.is_open
            return drained

    def _run(self) -> None:
        retry_seconds = self._retry_seconds
        while not self._closing.is_set():
            try:
                self._read_stream()
            except Exception as error:  # any error: a stream that ended silently would lose changes for ever
                was_refused = self.is_refused
                self.is_refused = isinstance(error, OperationFailure) and error.code in CHANGE_STREAM_CODES
                if not self.is_refused:
                    self._log_failure(error)
                elif not was_refused:
                    _log.info(
                        "change streams are unavailable; watched audiences use full scans", datatype=self.datatype
                    )
            self._close_stream()
            retry_seconds = min(2 * retry_seconds, _MAX_RETRY_SECONDS) if self.is_refused else self._retry_seconds
            self._closing.wait(retry_seconds)

    def _read_stream(self) -> None:
        """Read until the stream ends, which it does if the collection is dropped or renamed."""
        options: dict[str, Any] = {"full_document": "updateLookup", "max_await_time_ms": _AWAIT_MS}
        with self._collection.watch(_STAGES, **options) as stream:
            # Shards report their changes separately: an idle shard proves nothing about the others.
            is_single_stream = not self._collection.database.client.is_mongos
            self.is_refused = False
            with self._lock:
                self.is_open = True
                self._complete_at = None
                self._mark_incomplete()
            self._notify()
            while stream.alive and not self._closing.is_set():
                polled_at = self._clock()
                change = stream.try_next()
                with self._lock:
                    if change is None and is_single_stream:
                        self._complete_at = polled_at
                    is_pending = change is not None and self._record(change)
                if is_pending:
                    self._notify()

    def _record(self, change: Mapping[str, Any]) -> bool:
        """Add a change to the subscriptions of its org. Returns whether one had no pending changes before."""
        if stamp := change.get("clusterTime"):
            self._complete_at = datetime.fromtimestamp(stamp.time, UTC)  # changes arrive in this order
        record = change.get("fullDocument") or change.get("documentKey") or {}
        sk = record.get("sk")
        if change["operationType"] not in _WRITES or not isinstance(sk, str):
            return self._mark_incomplete()
        subscribers = self._subscriptions.get(org_of(sk), ())
        is_pending = not all(subscription.has_pending for subscription in subscribers)
        for subscription in subscribers:
            subscription.keys.add(sk)
            if len(subscription.keys) > self._max_keys:
                subscription.keys, subscription.is_complete = set(), False
        return is_pending

    def _mark_incomplete(self) -> bool:
        """Mark every subscription as incomplete. Returns whether any was complete before."""
        subscribers = [subscription for group in self._subscriptions.values() for subscription in group]
        is_pending = any(subscription.is_complete for subscription in subscribers)
        for subscription in subscribers:
            subscription.is_complete = False
        return is_pending

    def _log_failure(self, error: Exception) -> None:
        if not self._closing.is_set():
            fields = {"datatype": self.datatype, "error": type(error).__name__}
            _log.warning("change stream failed; reopening", **fields, exc_info=_unexpected(error))

    def _close_stream(self) -> None:
        with self._lock:
            self.is_open = False
            self._mark_incomplete()
        self._notify()


def _unexpected(error: Exception) -> Exception | None:
    """The error, unless the driver raised it."""
    return None if isinstance(error, PyMongoError) else error
