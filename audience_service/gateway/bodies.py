"""Bodies of HTTP requests: decompressed, limited in size, and received in time."""

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import Protocol

import grpc
from starlette.requests import ClientDisconnect, Request

from audience_service.gateway.errors import GatewayError


class Call(Protocol):
    """An RPC that is running."""

    def cancel(self) -> bool:
        """End it. Returns whether it was running."""


_GZIP = 16 + zlib.MAX_WBITS


async def read_body(request: Request, max_bytes: int, timeout_seconds: float) -> bytes:
    """The body of a request. Raises GatewayError if it is too large or too slow, before all of it has arrived."""
    if not request.headers.get("content-length", "0").isdigit():
        raise GatewayError.malformed("content-length is not a number")
    if int(request.headers.get("content-length", "0")) > max_bytes:
        raise GatewayError.too_large(max_bytes)
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_seconds):
            async for chunk in decoded_chunks(request, max_bytes):
                body += chunk
                if len(body) > max_bytes:
                    raise GatewayError.too_large(max_bytes)
    except TimeoutError:
        raise GatewayError.too_slow() from None
    return bytes(body)


async def decoded_chunks(request: Request, max_chunk_bytes: int) -> AsyncIterator[bytes]:
    """The body of a request piece by piece, decompressed. A compressed piece gives pieces of at most this size.

    Raises GatewayError: 415 for an encoding other than gzip, 400 for bytes that are not of that encoding.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding == "identity":
        async for chunk in request.stream():
            yield chunk
        return
    if encoding not in ("gzip", "x-gzip"):
        raise GatewayError.of(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            grpc.StatusCode.INVALID_ARGUMENT,
            f"content-encoding {encoding[:40]} is not supported; send gzip, or do not compress",
            headers={"accept-encoding": "gzip"},
        )
    decompressor = zlib.decompressobj(_GZIP)
    try:
        async for chunk in request.stream():
            while chunk:
                piece = decompressor.decompress(chunk, max_chunk_bytes)
                if piece:
                    yield piece
                if decompressor.eof and decompressor.unused_data:
                    raise GatewayError.malformed("the body goes on after the end of its gzip data")
                chunk = decompressor.unconsumed_tail
    except zlib.error as error:
        raise GatewayError.malformed(f"the body is not gzip: {error}") from None
    if not decompressor.eof:
        raise GatewayError.malformed("the gzip data of the body is incomplete")


@asynccontextmanager
async def cancelled_on_disconnect(request: Request, call: Call) -> AsyncIterator[None]:
    """A block that waits for an RPC, which is cancelled if the client disconnects. The body must have been read.

    Raises ClientDisconnect if it has.
    """
    watcher = asyncio.create_task(_until_disconnect(request))
    watcher.add_done_callback(lambda done: None if done.cancelled() else call.cancel())
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if watcher.done() and not (task and task.cancelling()):
            raise ClientDisconnect from None
        raise
    finally:
        watcher.cancel()
        with suppress(asyncio.CancelledError):
            await watcher


async def _until_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
