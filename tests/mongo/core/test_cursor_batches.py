"""Batches of a cursor: how many records and bytes one has."""

from collections.abc import Iterator
from typing import Any, cast

import pytest
from pymongo.command_cursor import CommandCursor

from audience_service.domain.core.record import Record
from audience_service.mongo.core.cursor_batches import BatchReader


class FakeCursor:
    """A cursor that fetches as MongoDB does: as many records at once as the last size allows."""

    def __init__(self, records: list[dict[str, Any]], size: int = 100) -> None:
        self._records = iter(records)
        self._size = size
        self.fetched: list[int] = []
        self._left = 0

    def batch_size(self, size: int) -> None:
        self._size = size

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self

    def __next__(self) -> dict[str, Any]:
        if not self._left:
            self._left = self._size
            self.fetched.append(self._size)
        self._left -= 1
        return next(self._records)


def read_all(cursor: FakeCursor, size: int) -> list[list[Record]]:
    reader = BatchReader(cast("CommandCursor[dict[str, Any]]", cursor), 10_000)
    return list(iter(lambda: reader.read(size), []))


@pytest.mark.parametrize("record_bytes", [10, 3_600, 600_000])
def test_batches_contain_every_record_once(record_bytes: int) -> None:
    records = [{"n": n, "pad": "x" * record_bytes} for n in range(250)]
    batches = read_all(FakeCursor(records), 70)
    assert [record for batch in batches for record in batch] == records
    assert max(map(len, batches)) <= 70


def test_small_records_fill_the_batches() -> None:
    cursor = FakeCursor([{"n": n} for n in range(25_000)])
    assert [len(batch) for batch in read_all(cursor, 1_000)] == [1_000] * 25
    assert max(cursor.fetched) == 10_000


def test_large_records_make_small_batches() -> None:
    """What the driver fetches at once is limited by bytes as well."""
    cursor = FakeCursor([{"pad": "x" * 3_600} for _ in range(1_000)])
    sizes = [len(batch) for batch in read_all(cursor, 10_000)]
    assert max(sizes) <= 145
    assert max(cursor.fetched[1:]) * 3_600 <= 512 * 1024
