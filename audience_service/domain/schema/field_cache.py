"""A cache of the fields of an org's records, for warnings in answers that must not wait for a sample."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from audience_service.domain.filters.field_profile import FieldProfile
from audience_service.observability import metrics
from audience_service.observability.tracing import background_span

Fields = Mapping[str, FieldProfile]
"""The profiles of a datatype's fields by path; empty if the org has no records of it."""

_TTL_SECONDS, _SMALL_TTL_SECONDS = 60.0, 5.0
"""How long a sample serves; for orgs that fit one sample, whose fields change with few records, less."""
_MAX_FIELDS = 100_000
"""The most profiles in the cache, of all orgs and datatypes together: about 100 MB."""
_THREADS = 2


class FieldCache:
    """Caches the fields by org and datatype. Concurrent calls share one read, which threads of the cache do."""

    def __init__(
        self, read: Callable[[str, str], tuple[Fields, bool]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`read` returns the fields of an org and datatype, and whether its sample is complete."""
        self._read = read
        self._clock = clock
        self._lock = threading.Lock()
        self._cache: OrderedDict[tuple[str, str], tuple[float, Fields, Future[Fields]]] = OrderedDict()
        """When the fields expire, the fields, and the future that returns them."""
        self._pending: dict[tuple[str, str], Future[Fields]] = {}
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="field-cache")

    def get(self, org: str, datatype: str) -> "Future[Fields]":
        """The fields, at once if they are cached, or once they have been read."""
        key = org, datatype
        with self._lock:
            cached = self._cache.get(key)
            is_fresh = cached is not None and cached[0] > self._clock()
            metrics.count_lookup("fields", hit=is_fresh)
            if cached and is_fresh:
                self._cache.move_to_end(key)
                return cached[2]
            if key not in self._pending:
                self._pending[key] = self._executor.submit(self._load, key)
            return self._pending[key]

    def close(self) -> None:
        """Stop reading. Reads that have begun end by their own deadline."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    @background_span("read fields")
    def _load(self, key: tuple[str, str]) -> Fields:
        try:
            fields, is_complete = self._read(*key)
        except BaseException:
            with self._lock:
                del self._pending[key]
            raise
        with self._lock:
            ttl = _SMALL_TTL_SECONDS if is_complete else _TTL_SECONDS
            done: Future[Fields] = Future()
            done.set_result(fields)
            self._cache[key] = self._clock() + ttl, fields, done
            self._cache.move_to_end(key)
            size = sum(len(cached) for _, cached, _ in self._cache.values())
            while size > _MAX_FIELDS:
                size -= len(self._cache.popitem(last=False)[1][1])
            del self._pending[key]
        return fields
