"""Slots limit the number of open streams, in all and for each holder, such as an org."""

import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from audience_service.domain.core.errors import TooManyStreams
from audience_service.observability import metrics


class StreamLimiter:
    """A limited number of slots for concurrent streams.

    `holder_limits` has the most slots of one holder, for each kind of holder: `org=8` for each org.
    """

    def __init__(self, workload: str, max_streams: int, **holder_limits: int) -> None:
        """The metrics show the slots by the name of their workload."""
        self._max_streams = max_streams
        self._gauge = metrics.STREAMS_OPEN.labels(workload)
        metrics.STREAM_SLOTS.labels(workload).set(max_streams)
        self._holder_limits = holder_limits
        self._open_count = 0
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    @property
    def open_count(self) -> int:
        """The number of open streams."""
        return self._open_count

    @contextmanager
    def acquire(self, **holders: str) -> Iterator[None]:
        """Occupy a slot, with the holder of each kind. Raises TooManyStreams immediately if a limit is reached."""
        keys = holders.items()
        with self._lock:
            if self._open_count >= self._max_streams:
                raise _too_many("server", self._max_streams)
            for kind, holder in keys:
                if self._counts[kind, holder] >= self._holder_limits[kind]:
                    raise _too_many(kind, self._holder_limits[kind])
            self._add(keys, 1)
        try:
            yield
        finally:
            with self._lock:
                self._add(keys, -1)

    def _add(self, keys: Iterable[tuple[str, str]], number: int) -> None:
        self._open_count += number
        self._gauge.inc(number)
        for key in keys:
            self._counts[key] += number
            if not self._counts[key]:
                del self._counts[key]


def _too_many(holder: str, limit: int) -> TooManyStreams:
    return TooManyStreams(
        f"{limit} streams of this {holder} are open, which is the limit; retry when one has ended",
        metadata={"limit": str(limit), "limited": holder},
    )
