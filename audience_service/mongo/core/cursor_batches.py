"""Batches of a cursor, limited by bytes.

A stream waits for its client with a batch in memory: the records, of which each takes several times its stored size.
The driver would fetch up to 16 MiB at once, and 16 clients that stop reading would take gigabytes.
"""

import itertools
import struct
from bisect import bisect_right
from collections.abc import Container, Iterator, Sequence
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument
from pymongo.command_cursor import CommandCursor
from pymongo.cursor import RawBatchCursor

from audience_service.domain.core.record import Documents, Record

FIRST_BATCH_SIZE = 100
"""The records of a cursor's first batch, whose sizes are not known yet."""
_MAX_BATCH_BYTES = 512 * 1024
_MEASURED_RECORDS = 8
_MAX_DOCUMENTS_BYTES = 3 * 1024 * 1024
_LENGTH = struct.Struct("<i")
"""The first element of a BSON document: its length in bytes (bsonspec.org)."""


class BatchReader:
    """Reads a cursor that was opened with `FIRST_BATCH_SIZE`. The sizes of records decide those of later batches."""

    def __init__(self, cursor: CommandCursor[dict[str, Any]], max_records: int) -> None:
        self._cursor = cursor
        self._max_records = max_records
        self._fetch_size = min(FIRST_BATCH_SIZE, max_records)

    def read(self, size: int) -> list[Record]:
        """The next records: `size` of them, or as many as take 256 to 512 KiB. Empty at the end."""
        batch: list[Record] = []
        byte_count = 0.0
        while len(batch) < size and byte_count < _MAX_BATCH_BYTES / 2:
            records = list(itertools.islice(self._cursor, min(size - len(batch), self._fetch_size)))
            if not records:
                break
            batch += records
            average = _average_bytes(records)
            byte_count += average * len(records)
            self._fetch_size = max(1, min(int(_MAX_BATCH_BYTES / average), self._max_records))
            self._cursor.batch_size(self._fetch_size)
        return batch


class RawBatchReader:
    """Reads a cursor of undecoded batches that was opened with `FIRST_BATCH_SIZE`, limited as by `BatchReader`."""

    def __init__(self, cursor: RawBatchCursor[Any], size: int, max_records: int) -> None:
        self._cursor = cursor
        self._size = size
        self._max_records = max_records

    def read(self) -> bytes:
        """The next documents, one after the other. Empty at the end."""
        content: bytes = next(self._cursor, b"")
        if content:
            count = len(_document_ends(content))
            fetch_size = max(1, min(_MAX_BATCH_BYTES * count // len(content), self._max_records))
            # Whole messages: each one seals a cursor.
            self._cursor.batch_size(fetch_size - fetch_size % self._size if fetch_size > self._size else fetch_size)
        return content


def cut_documents(content: bytes, size: int) -> Iterator[Documents]:
    """Batches of up to `size` of the documents in `content`, and of up to 3 MiB. A larger document is one batch."""
    ends = _document_ends(content)
    first = start = 0
    while first < len(ends):
        last = min(first + size, len(ends))
        last = max(bisect_right(ends, start + _MAX_DOCUMENTS_BYTES, first, last), first + 1)
        end = ends[last - 1]
        last_start = ends[last - 2] if last - first > 1 else start
        yield Documents(content[start:end], last - first, _sk_of(content[last_start:end]))
        first, start = last, end


def exclude(documents: Documents, sks: Container[str]) -> Documents | None:
    """The documents without the records of some sks, None if none remains."""
    ends = _document_ends(documents.content)
    found = [documents.content[start:end] for start, end in itertools.pairwise([0, *ends])]
    present = [document for document in found if _sk_of(document) not in sks]
    return Documents(b"".join(present), len(present), _sk_of(present[-1])) if present else None


def _document_ends(content: bytes) -> list[int]:
    """The offsets at which consecutive documents end."""
    ends: list[int] = []
    end = 0
    while end < len(content):
        end += _LENGTH.unpack_from(content, end)[0]
        ends.append(end)
    return ends


def _sk_of(document: bytes) -> str:
    return str(RawBSONDocument(document)["sk"])  # it decodes the top level only


def _average_bytes(records: Sequence[Record]) -> float:
    """The average size of some of the records, evenly spaced."""
    measured = records[:: max(1, len(records) // _MEASURED_RECORDS)]
    return sum(len(bson.encode(record)) for record in measured) / len(measured)
