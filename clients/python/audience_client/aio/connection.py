"""Calls of a caller to a service: metadata, deadlines, retries, resumption, and errors as exceptions."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from audience_client.aio.tokens import AsyncTokenSource
from audience_client.errors import AudienceError, DeadlineExceeded, Unavailable, from_rpc_error
from audience_client.methods import channel_options, is_repeatable, with_request_id
from audience_client.reasons import ExpiredToken

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response")

_RETRY_SECONDS = 1.0
"""The delay before a retry if the error names none."""


class AsyncConnection:
    """A channel to a service, with the org and token of one caller. It is safe to share.

    `timeout` is the deadline of a call in seconds, including its retries. `resume_timeout` is how long a stream is
    resumed without receiving a message.
    """

    def __init__(
        self,
        address: str,
        org: str,
        token: str | Callable[[], Awaitable[str]],
        credentials: grpc.ChannelCredentials | None,
        timeout: float,
        resume_timeout: float,
    ) -> None:
        options = channel_options()
        self.channel = (
            grpc.aio.insecure_channel(address, options)
            if credentials is None
            else grpc.aio.secure_channel(address, credentials, options)
        )
        self._address = address
        self._org = org
        self._tokens = AsyncTokenSource(token)
        self._timeout = timeout
        self._resume_timeout = resume_timeout

    async def call(
        self,
        method: "grpc.aio.UnaryUnaryMultiCallable[Request, Response]",
        request: Request,
        timeout: float | None = None,
    ) -> Response:
        """The response of an RPC, repeated until the deadline as long as that is safe and may help.

        Raises AudienceError.
        """
        message: Any = with_request_id(request)
        give_up_at = time.monotonic() + (self._timeout if timeout is None else timeout)
        while True:
            token = await self._tokens.get()
            try:
                remaining = max(give_up_at - time.monotonic(), 0.001)
                return await method(message, timeout=remaining, metadata=self._metadata(token))
            except grpc.RpcError as rpc_error:
                error = from_rpc_error(rpc_error, self._address)
            delay = self._retry_delay(error, token)
            if isinstance(error, Unavailable) and not is_repeatable(message):
                delay = None  # the service may have done it
            if delay is None or time.monotonic() + delay >= give_up_at:
                raise error
            await asyncio.sleep(delay)

    async def stream(
        self,
        method: "grpc.aio.UnaryStreamMultiCallable[Request, Response]",
        request: Request,
        is_last: Callable[[Response], bool],
        position: str = "cursor",
    ) -> AsyncIterator[Response]:
        """The messages of a stream up to the last one, resumed after the last message received when it breaks.

        `position` is the field of request and response with the position in the stream. Raises AudienceError.
        """
        message: Any = type(request)()
        message.CopyFrom(request)
        give_up_at = time.monotonic() + self._resume_timeout
        while True:
            token = await self._tokens.get()
            error: AudienceError = Unavailable("the stream ended before its last message", grpc.StatusCode.UNAVAILABLE)
            call = method(message, metadata=self._metadata(token))
            try:
                async for response in call:
                    setattr(message, position, getattr(response, position))
                    yield response
                    if is_last(response):
                        return
                    give_up_at = time.monotonic() + self._resume_timeout
            except grpc.RpcError as rpc_error:
                error = from_rpc_error(rpc_error, self._address)
            finally:
                call.cancel()
            delay = self._retry_delay(error, token)
            if delay is None and isinstance(error, DeadlineExceeded):
                delay = _RETRY_SECONDS  # the service cuts streams after an hour, and those that are not read
            if delay is None or time.monotonic() + delay >= give_up_at:
                raise error
            await asyncio.sleep(delay)

    async def close(self) -> None:
        """Close the channel. Running calls are cancelled."""
        await self.channel.close()

    def _metadata(self, token: str) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {token}"), ("orgid", self._org))

    def _retry_delay(self, error: AudienceError, token: str) -> float | None:
        """The delay in seconds after which a call may succeed, None if repeating it does not help."""
        if isinstance(error, ExpiredToken):
            return 0.0 if self._tokens.discard(token) else None
        if isinstance(error, Unavailable):
            return _RETRY_SECONDS if error.retry_delay is None else error.retry_delay
        return error.retry_delay
