"""The messages of an upload's stream, and the bytes of the file that they carry.

UploadHeader, Chunk(offset 0), Chunk(offset 1024), ..., Trailer(size, crc32)     in this order, and nothing after
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.custom_audiences.errors import (
    ChecksumMismatch,
    OffsetMismatch,
    UploadIncomplete,
    UploadReused,
)
from audience_service.domain.uploads.model import FilePosition, UploadHeader

MAX_CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes of the file, their offset, and their checksum."""

    offset: int
    data: bytes
    crc32: int


@dataclass(frozen=True, slots=True)
class Trailer:
    """The size of the file in bytes, and its checksum."""

    size: int
    crc32: int


UploadMessage = UploadHeader | Chunk | Trailer


class WrongFile(ChecksumMismatch):
    """All bytes were received, but they are not those of the caller's file."""


def read_header(messages: Iterator[UploadMessage]) -> UploadHeader:
    """The first message. Raises InvalidArgument if it is not a header."""
    first = next(messages, None)
    if not isinstance(first, UploadHeader):
        raise InvalidArgument.at("header", "is missing; send it as the first message")
    return first


def check_repeated(messages: Iterator[UploadMessage], expected: FilePosition) -> None:
    """Read a stream that repeats a complete upload, or asks for its state, up to its end.

    Raises UploadReused if size or checksum differ from `expected`, InvalidArgument.
    """
    for message in messages:
        match message:
            case UploadHeader():
                raise InvalidArgument.at("header", "comes a second time; send it once, as the first message")
            case Trailer():
                if (message.size, message.crc32) != (expected.offset, expected.crc32):
                    raise UploadReused("this upload_id belongs to another file, which is complete; use a new upload_id")
                return


def read_stream(messages: Iterator[UploadMessage], start: FilePosition) -> Iterator[bytes]:
    """The chunks of the file after a position, up to its end.

    Raises OffsetMismatch, ChecksumMismatch, UploadIncomplete (also if the stream ends without a trailer), WrongFile and
    InvalidArgument.
    """
    offset, crc32 = start.offset, start.crc32
    for message in messages:
        match message:
            case Chunk():
                if len(message.data) > MAX_CHUNK_BYTES:
                    raise InvalidArgument.at(
                        "chunk.data", f"has {len(message.data):,} bytes, more than {MAX_CHUNK_BYTES:,}"
                    )
                if message.offset != offset:
                    raise OffsetMismatch(f"the chunk begins at {message.offset:,}, but the next offset is {offset:,}")
                if zlib.crc32(message.data) != message.crc32:
                    raise ChecksumMismatch(f"the chunk at {offset:,} does not match its checksum; send it again")
                offset, crc32 = offset + len(message.data), zlib.crc32(message.data, crc32)
                yield message.data
            case Trailer():
                if message.size != offset:
                    raise UploadIncomplete(
                        f"{offset:,} of {message.size:,} bytes were received; send the rest from next_offset"
                    )
                if message.crc32 != crc32:
                    raise WrongFile("the file does not match its checksum; send it again from its beginning")
                return
            case UploadHeader():
                raise InvalidArgument.at("header", "comes a second time; send it once, as the first message")
    raise UploadIncomplete("the stream ended without a trailer; continue at next_offset")
