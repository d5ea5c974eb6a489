"""Batches of a cursor: how many records and bytes one has."""

from collections.abc import Iterator
from typing import Any, cast

import bson
import pytest
from pymongo.command_cursor import CommandCursor

from audience_service.domain.core.record import Record
from audience_service.mongo.core.cursor_batches import BatchReader, cut_documents, exclude


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


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize("pad", [0, 1_000_000, 4_000_000])
def test_documents_are_cut_at_their_bounds(size: int, pad: int) -> None:
    """Each batch has at most `size` of them, and at most 3 MiB unless a single one is larger."""
    records = [{"pk": n, "sk": f"acme/contact/{n}", "pad": "x" * pad} for n in range(7)]
    batches = list(cut_documents(b"".join(map(bson.encode, records)), size))
    decoded = [bson.decode_all(batch.content) for batch in batches]
    assert [record for batch in decoded for record in batch] == records
    for batch, found in zip(batches, decoded, strict=True):
        assert (batch.count, batch.last_sk) == (len(found), found[-1]["sk"])
        assert batch.count <= size
        assert batch.count == 1 or len(batch.content) <= 3 * 1024 * 1024
    assert list(cut_documents(b"", size)) == []


def test_excluded_records_leave_the_documents() -> None:
    """What remains has its own count and last sk; nothing remains of a batch of excluded records."""
    [documents] = cut_documents(b"".join(bson.encode({"pk": key, "sk": key}) for key in "abcd"), 10)
    present = exclude(documents, {"a", "d"})
    assert present is not None
    assert (bson.decode_all(present.content), present.count, present.last_sk) == (
        [{"pk": "b", "sk": "b"}, {"pk": "c", "sk": "c"}],
        2,
        "c",
    )
    assert exclude(documents, set("abcd")) is None
