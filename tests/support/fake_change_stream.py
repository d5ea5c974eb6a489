"""Scripted change streams at the driver's boundary: the test sends what a replica set would send."""

import queue
import threading
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from bson import Timestamp
from pymongo.errors import AutoReconnect


class ScriptedStream:
    """A change stream that sends the changes of a script."""

    def __init__(self) -> None:
        self.alive = True
        self.is_blocking = False
        """Whether it waits for the next change however long that takes, and never returns None."""
        self._changes: queue.Queue[Any] = queue.Queue()
        self._drained = threading.Condition()
        self._waits = 0

    def __enter__(self) -> "ScriptedStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.alive = False

    def try_next(self) -> Mapping[str, Any] | None:
        """The next change; None if there is none yet."""
        with self._drained:
            self._waits += 1
            self._drained.notify_all()
        while True:
            try:
                change_or_error = self._changes.get(timeout=0.02)
                break
            except queue.Empty:
                if not self.is_blocking:
                    return None
        if isinstance(change_or_error, Exception):
            raise change_or_error
        if change_or_error["operationType"] == "invalidate":
            self.alive = False
        change: Mapping[str, Any] = change_or_error
        return change

    def emit(self, operation: str, sk: str | None = None, seconds: int = 1_700_000_000) -> None:
        """Send a change, of a record whose sk is known or unknown."""
        record = {"fullDocument": {"sk": sk} if sk else None}
        self._changes.put(
            {"operationType": operation, "clusterTime": Timestamp(seconds, 1), "documentKey": {}, **record}
        )

    def fail(self, error: Exception) -> None:
        """Break."""
        self._changes.put(error)

    def wait_until_drained(self) -> None:
        """Wait until all sent changes have been processed."""
        with self._drained:
            until = self._waits + 2
            assert self._drained.wait_for(lambda: self._changes.empty() and self._waits >= until, timeout=40)


class ScriptedDatabase:
    """A database whose collections are watched by script."""

    def __init__(self, *, is_mongos: bool = False) -> None:
        self.client = SimpleNamespace(is_mongos=is_mongos)
        self.streams: queue.Queue[ScriptedStream] = queue.Queue()
        self.watch_calls: list[tuple[str, Any, dict[str, Any]]] = []
        self.is_away = False
        """Whether no stream can be opened."""
        self.failures: list[Exception] = []
        """The errors of the next opens."""

    def __getitem__(self, name: str) -> "ScriptedCollection":
        return ScriptedCollection(self, name)

    def next_stream(self) -> ScriptedStream:
        """The stream that is opened next, once it is."""
        return self.streams.get(timeout=40)


class ScriptedCollection:
    """One collection."""

    def __init__(self, database: ScriptedDatabase, name: str) -> None:
        self.database, self._name = database, name

    def watch(self, stages: Any, **options: Any) -> ScriptedStream:
        """Open a stream. Raises AutoReconnect while the database is away."""
        self.database.watch_calls.append((self._name, stages, options))
        if self.database.is_away:
            raise AutoReconnect("gone")
        if self.database.failures:
            raise self.database.failures.pop()
        stream = ScriptedStream()
        self.database.streams.put(stream)
        return stream
