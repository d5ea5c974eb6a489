"""The source of a caller's tokens."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from audience_client.tokens import REFRESH_SECONDS, expiry


class AsyncTokenSource:
    """Returns a valid token for each call.

    It keeps the token of a function until a minute before the token expires. A token without a readable expiry is
    requested for each call.
    """

    def __init__(self, token: str | Callable[[], Awaitable[str]]) -> None:
        self._token = token if isinstance(token, str) else ""
        self._fetch = None if isinstance(token, str) else token
        self._expires_at = 0.0
        self._lock = asyncio.Lock()

    async def get(self) -> str:
        """A token that is valid for a minute, if the function returns such tokens."""
        if self._fetch is None:
            return self._token
        async with self._lock:
            if time.time() > self._expires_at - REFRESH_SECONDS:
                self._token = await self._fetch()
                self._expires_at = expiry(self._token)
            return self._token

    def discard(self, token: str) -> bool:
        """Request another token for the next call. Returns whether that is possible and not done yet."""
        if self._fetch is None or token != self._token or not self._expires_at:
            return False
        self._expires_at = 0.0
        return True
