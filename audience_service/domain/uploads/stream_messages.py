"""The messages of an upload's stream, and the pieces of the file that they carry."""

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
from audience_service.domain.uploads.model import Position, UploadHeader

MAX_CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of the file, where it begins, and its checksum."""

    offset: int
    data: bytes
    crc32: int


@dataclass(frozen=True, slots=True)
class Trailer:
    """How many bytes the file has, and its checksum."""

    size: int
    crc32: int


UploadMessage = UploadHeader | Chunk | Trailer


class WrongFile(ChecksumMismatch):
    """All of the file has arrived, and is another than the one that the caller means."""


def read_header(messages: Iterator[UploadMessage]) -> UploadHeader:
    """The first message. Raises InvalidArgument where it is no header."""
    first = next(messages, None)
    if not isinstance(first, UploadHeader):
        raise InvalidArgument.at("header", "is missing; an upload begins with one")
    return first


def check_repeated(messages: Iterator[UploadMessage], expected: Position) -> None:
    """Read on to the end of a stream that repeats a file of this size and checksum, or asks what has become of it.

    Raises UploadReused where it is another file, InvalidArgument.
    """
    for message in messages:
        match message:
            case UploadHeader():
                raise InvalidArgument.at("header", "comes once, before all else")
            case Trailer():
                if (message.size, message.crc32) != (expected.offset, expected.crc32):
                    raise UploadReused("this upload_id stands for another file, which has arrived whole")
                return


def read_stream(messages: Iterator[UploadMessage], start: Position) -> Iterator[bytes]:
    """The pieces of the file behind a position, up to its end.

    Raises OffsetMismatch, ChecksumMismatch, UploadIncomplete (also where the stream ends without an end), WrongFile and
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
                    raise OffsetMismatch(f"the chunk begins at {message.offset:,}, and the file goes on at {offset:,}")
                if zlib.crc32(message.data) != message.crc32:
                    raise ChecksumMismatch(f"the chunk at {offset:,} is not what its checksum is of; send it again")
                offset, crc32 = offset + len(message.data), zlib.crc32(message.data, crc32)
                yield message.data
            case Trailer():
                if message.size != offset:
                    raise UploadIncomplete(f"{offset:,} bytes have arrived of {message.size:,}")
                if message.crc32 != crc32:
                    raise WrongFile("the file is not what its checksum is of; send it again from its beginning")
                return
            case UploadHeader():
                raise InvalidArgument.at("header", "comes once, before all else")
    raise UploadIncomplete("the stream ended without a trailer; continue at next_offset")
