"""The current keys that verify tokens, read again in the background while calls use the last good ones.

1. A call never waits for a key: `keys` returns the last set, and an unknown key id only requests a refresh.
2. A source that fails keeps its last keys, however long it fails. Keys that a source no longer has are dropped.
3. Refreshes are at least `min_interval_seconds` apart, whatever callers send.
"""

import http.client
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

import structlog

from audience_service.rpc.token_keys import KeySet, KeySource, KeySourceError

_MAX_JWKS_BYTES = 512 * 1024
_SOCKET_TIMEOUT_SECONDS, _FETCH_TIMEOUT_SECONDS = 5.0, 10.0
_LOOPBACK = ("localhost", "127.0.0.1", "::1")

_log = structlog.get_logger()


class KeyRing:
    """The keys of several sources."""

    def __init__(
        self,
        sources: Sequence[KeySource],
        refresh_seconds: float = 300.0,
        min_interval_seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read every source. Raises KeySourceError if one fails."""
        self._sources = sources
        self._refresh_seconds = refresh_seconds
        self._min_interval_seconds = min_interval_seconds
        self._clock = clock
        self._keys_of = [source.load() for source in sources]
        self._keys = self._merge()
        self._complete_at = clock()
        self._wake_event, self._stop_event = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def keys(self) -> KeySet:
        """The current keys; another object after they have changed."""
        return self._keys

    @property
    def is_recent(self) -> bool:
        """Whether no source can have keys that are not known here: all were read a moment ago, or cannot change."""
        return all(source.is_fixed for source in self._sources) or (
            self._clock() - self._complete_at < self._min_interval_seconds
        )

    def request_refresh(self) -> None:
        """Have the sources read again soon."""
        self._wake_event.set()

    def refresh(self) -> None:
        """Read the sources again. One that fails keeps its last keys."""
        started_at, complete, previous = self._clock(), True, self._keys_of
        found = list(previous)
        for number, source in enumerate(self._sources):
            if source.is_fixed:
                continue
            try:
                found[number] = source.load()
            except KeySourceError as error:
                complete = False
                _log.warning("reading the keys of tokens failed; the last ones stay", error=str(error))
        try:
            self._keys_of = found
            keys = self._merge()
        except KeySourceError as error:
            self._keys_of = previous
            _log.warning("the keys of tokens contradict each other; the last ones stay", error=str(error))
            return
        if keys.fingerprint != self._keys.fingerprint:
            self._keys = keys
            _log.info("the keys of tokens changed", ids=sorted(key.kid or "" for key in keys))
        if complete:
            self._complete_at = started_at

    def start(self) -> None:
        """Refresh in the background, at every interval and on request."""
        if not all(source.is_fixed for source in self._sources):
            self._thread = threading.Thread(target=self._refresh_loop, name="token-keys", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the refreshes. One that is running ends by itself."""
        self._stop_event.set()
        self._wake_event.set()

    def _refresh_loop(self) -> None:
        while not self._stop_event.wait(self._min_interval_seconds):
            self._wake_event.wait(self._refresh_seconds)
            self._wake_event.clear()
            if self._stop_event.is_set():
                return
            try:
                self.refresh()
            except Exception as error:
                _log.error("refreshing the keys of tokens failed", exc_info=error)

    def _merge(self) -> KeySet:
        try:
            return KeySet(key for keys in self._keys_of for key in keys)
        except ValueError as error:
            raise KeySourceError(f"{', '.join(source.name for source in self._sources)}: {error}") from None


def fetch_jwks(url: str) -> bytes:
    """The content at the URL of a JWKS. Raises OSError, ValueError; takes at most about 15 seconds.

    A redirect is refused, because it could lead to a place that is not protected by TLS.
    """
    deadline = time.monotonic() + _FETCH_TIMEOUT_SECONDS
    request = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310 - the settings check it
    opener = urllib.request.build_opener(_NoRedirect)
    content = b""
    try:
        with opener.open(request, timeout=_SOCKET_TIMEOUT_SECONDS) as response:
            while part := response.read1(65_536):
                content += part
                if len(content) > _MAX_JWKS_BYTES:
                    raise ValueError(f"is larger than {_MAX_JWKS_BYTES:,} bytes")
                if time.monotonic() > deadline:
                    raise TimeoutError(f"did not arrive within {_FETCH_TIMEOUT_SECONDS:.0f} seconds")
    except http.client.HTTPException as error:
        raise OSError(f"is not answered in HTTP: {error!r}") from None
    return content


def is_trustworthy_url(url: str) -> bool:
    """Whether nobody can change the answer on its way: HTTPS, or HTTP from this machine."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return bool(parts.hostname) and (
        parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
    )


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """Follow no redirect, which leaves the status 3xx as the error."""
