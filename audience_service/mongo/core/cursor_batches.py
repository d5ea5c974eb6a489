"""Batches of a cursor, limited by bytes.

A stream waits for its client with a batch in memory: the records, of which each takes several times its stored size.
The driver would fetch up to 16 MiB at once, and 16 clients that stop reading would take gigabytes.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import bson
from pymongo.command_cursor import CommandCursor
from pymongo.cursor import RawBatchCursor

from audience_service.domain.core.documents import document_ends
from audience_service.domain.core.record import Record

FIRST_BATCH_SIZE = 100
"""The records of a cursor's first batch, whose sizes are not known yet."""
_MAX_BATCH_BYTES = 512 * 1024
_MEASURED_RECORDS = 8


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
            count = len(document_ends(content))
            fetch_size = max(1, min(_MAX_BATCH_BYTES * count // len(content), self._max_records))
            # Whole messages: each one seals a cursor.
            self._cursor.batch_size(fetch_size - fetch_size % self._size if fetch_size > self._size else fetch_size)
        return content


def _average_bytes(records: Sequence[Record]) -> float:
    """The average size of some of the records, evenly spaced."""
    measured = records[:: max(1, len(records) // _MEASURED_RECORDS)]
    return sum(len(bson.encode(record)) for record in measured) / len(measured)
