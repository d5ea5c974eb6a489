"""Uploads of files as `multipart/form-data`, sent on piece by piece.

The parts before the file are fields of UploadHeader, by name; `columns` is JSON. The last part, `file`, is the complete
file, also if an upload is repeated. The gateway asks the service how much of the upload it has, and sends the rest.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message import Message
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from audience_service.gateway.bodies import decoded_chunks
from audience_service.gateway.errors import GatewayError
from audience_service.gateway.json_text import parse_json
from audience_service.gateway.requests import build_message, refuse_query
from audience_service.pb.audience.v1 import custom_audience_service_pb2 as pb
from audience_service.pb.audience.v1.custom_audience_service_pb2_grpc import CustomAudienceServiceStub

_FILE = "file"
_MAX_FIELD_BYTES = 64 * 1024
_MAX_CHUNK_BYTES = 256 * 1024


async def upload(
    channel: grpc.Channel,
    path: Mapping[str, str],
    request: Request,
    metadata: Sequence[tuple[str, str]],
    chunk_timeout_seconds: float,
) -> Message:
    """The response of UploadMembers. Raises GatewayError.

    The channel is one of synchronous grpc. If the service ends an RPC while the client sends, grpc.aio reports
    `Internal error from Core` in place of the service's error.
    """
    refuse_query(request.scope["query_string"])
    form = _Form(request, chunk_timeout_seconds)
    header = await form.read_header(path["header.audience_id"])
    stub: Any = CustomAudienceServiceStub(channel)
    stored = pb.GetUploadRequest(audience_id=header.audience_id, upload_id=header.upload_id)
    try:
        call = stub.GetUpload.future(stored, metadata=metadata, timeout=chunk_timeout_seconds)
        next_offset = (await _result(call)).next_offset
    except grpc.RpcError as error:
        if error.code() not in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT):
            raise GatewayError.from_rpc(error) from None
        next_offset = 0  # a new upload, or an error that UploadMembers reports
    messages = _Messages(_read_messages(header, form, next_offset))
    try:
        response: pb.Upload = await _result(stub.UploadMembers.future(messages, metadata=metadata))
        return response
    except grpc.RpcError as error:
        raise messages.error or GatewayError.from_rpc(error) from None
    finally:
        messages.close()


async def _read_messages(
    header: pb.UploadHeader, form: "_Form", next_offset: int
) -> AsyncIterator[pb.UploadMembersRequest]:
    """The messages of the stream, without the bytes that the service has."""
    yield pb.UploadMembersRequest(header=header)
    size, checksum = 0, 0
    async for piece in form.read_file():
        checksum = zlib.crc32(piece, checksum)
        size += len(piece)
        if data := piece[max(next_offset - size + len(piece), 0) :]:
            chunk = pb.UploadChunk(offset=size - len(data), data=data, crc32=zlib.crc32(data))
            yield pb.UploadMembersRequest(chunk=chunk)
    yield pb.UploadMembersRequest(trailer=pb.UploadTrailer(size_bytes=size, crc32=checksum))


async def _result(call: Any) -> Any:
    """The response of an RPC of synchronous grpc, which is cancelled with the task. Raises grpc.RpcError."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    call.add_done_callback(lambda _: loop.call_soon_threadsafe(ended.set))
    try:
        await ended.wait()
    finally:
        call.cancel()
    return call.result()


class _Messages:
    """Messages of the event loop, for the thread in which grpc sends them. It takes one when it has sent the last."""

    def __init__(self, messages: AsyncIterator[pb.UploadMembersRequest]) -> None:
        self._messages = messages
        self._loop = asyncio.get_running_loop()
        self._next: Future[pb.UploadMembersRequest | None] | None = None
        self._is_closed = False
        self.error: Exception | None = None
        """Why there are no further messages."""

    def __iter__(self) -> Iterator[pb.UploadMembersRequest]:
        return self

    def __next__(self) -> pb.UploadMembersRequest:
        """The next message. After an error the stream ends without its trailer, and the service keeps what it has."""
        if self._is_closed:
            raise StopIteration
        self._next = asyncio.run_coroutine_threadsafe(self._read(), self._loop)
        try:
            message = self._next.result()
        except CancelledError:
            raise StopIteration from None
        if message is None:
            raise StopIteration
        return message

    def close(self) -> None:
        """Stop waiting for a message."""
        self._is_closed = True
        if self._next:
            self._next.cancel()

    async def _read(self) -> pb.UploadMembersRequest | None:
        try:
            return await anext(self._messages, None)
        except Exception as error:
            self.error = error
            return None


@dataclass(slots=True)
class _Part:
    """A part of the form, as far as it has been read."""

    name: str = ""
    headers: dict[bytes, bytes] = field(default_factory=dict)
    content: list[bytes] = field(default_factory=list)
    is_complete: bool = False

    @property
    def size(self) -> int:
        """The bytes of its name and of its content."""
        return len(self.name.encode()) + sum(map(len, self.content))


class _Form:
    """The parts of a form, read in order and without a file in between."""

    def __init__(self, request: Request, timeout_seconds: float) -> None:
        kind, options = parse_options_header(request.headers.get("content-type", ""))
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise GatewayError.malformed("an upload is multipart/form-data with a boundary; send the file as a form")
        self._parts: list[_Part] = []
        self._header_name, self._header_value = b"", b""
        self._chunks = decoded_chunks(request, _MAX_CHUNK_BYTES)
        self._timeout_seconds = timeout_seconds
        try:
            self._parser = MultipartParser(
                options[b"boundary"],
                {
                    "on_part_begin": lambda: self._parts.append(_Part()),
                    "on_header_field": self._add_to_name,
                    "on_header_value": self._add_to_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._name_part,
                    "on_part_data": lambda data, start, end: self._parts[-1].content.append(data[start:end]),
                    "on_part_end": self._end_part,
                },
            )
        except FormParserError as error:
            raise GatewayError.malformed(f"the form cannot be read: {error}") from None

    async def read_header(self, audience_id: str) -> pb.UploadHeader:
        """The parts before the file. Raises GatewayError."""
        fields: dict[str, Any] = {}
        size = 0
        while True:
            part = self._parts[0] if self._parts else None
            if part and part.name == _FILE:
                break
            if part and size + part.size > _MAX_FIELD_BYTES:
                raise GatewayError.invalid_field(
                    part.name, f"exceeds {_MAX_FIELD_BYTES} bytes, the limit of all fields before the file together"
                )
            if part and part.is_complete:
                size += part.size
                _add_field(fields, part)
                self._parts.pop(0)
            elif not await self._read_more():
                raise GatewayError.malformed(f"the form has no part `{_FILE}`; send the file as the last part")
        header: Any = build_message(pb.UploadHeader, fields)
        if header.audience_id not in ("", audience_id):
            raise GatewayError.invalid_field("audienceId", "is another one in the form than in the path; leave it out")
        header.audience_id = audience_id
        return header  # type: ignore[no-any-return]

    async def read_file(self) -> AsyncIterator[bytes]:
        """The content of the file. Call it after `read_header`. Raises GatewayError if another part comes after it."""
        part = self._parts[0]
        while True:
            content, part.content = part.content, []
            for piece in content:
                for start in range(0, len(piece), _MAX_CHUNK_BYTES):
                    yield piece[start : start + _MAX_CHUNK_BYTES]
            if len(self._parts) > 1:
                raise GatewayError.malformed(f"the form has a part after `{_FILE}`; send the file as the last part")
            if not await self._read_more():
                break
        if not part.is_complete:
            raise GatewayError.malformed("the form ends within the file; send all of it again")

    async def _read_more(self) -> bool:
        """Read a piece of the form. Returns whether there was one."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                chunk = await anext(self._chunks, None)
        except TimeoutError:
            raise GatewayError.too_slow() from None
        if chunk is None:
            return False
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise GatewayError.malformed(f"the form cannot be read: {error}") from None
        return True

    def _add_to_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end].lower()

    def _add_to_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        self._parts[-1].headers[self._header_name] = self._header_value
        self._header_name, self._header_value = b"", b""

    def _name_part(self) -> None:
        part = self._parts[-1]
        _, options = parse_options_header(part.headers.get(b"content-disposition"))
        part.name = options.get(b"name", b"").decode("utf-8", "replace")

    def _end_part(self) -> None:
        self._parts[-1].is_complete = True


def _add_field(fields: dict[str, Any], part: _Part) -> None:
    content = b"".join(part.content)
    if part.name in fields:
        raise GatewayError.invalid_field(part.name, "is in the form twice; send it once")
    try:
        fields[part.name] = parse_json(content) if part.name in _JSON_FIELDS else content.decode()
    except ValueError as error:
        raise GatewayError.invalid_field(part.name, str(error)) from None


_JSON_FIELDS = {
    name
    for each in pb.UploadHeader.DESCRIPTOR.fields
    if each.message_type or each.cpp_type == each.CPPTYPE_BOOL
    for name in (each.name, each.json_name)
}
"""The fields that are JSON in a part: `columns`, and those that are true or false."""
