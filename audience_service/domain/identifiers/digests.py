"""A compact set of rows: it stores digests, counts distinct rows and tests membership."""

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator

_BYTES = 12
"""Bytes of a digest. The probability that two of ten million rows share a digest is about 10**-15."""
_BUCKETS = 256


class Digests:
    """A set of up to `max_rows` rows; it ignores further ones.

    Each row takes 12 bytes, so a million take 12 MB. A Python set would take about 100 MB.
    """

    def __init__(self, max_rows: int) -> None:
        self._remaining = max_rows
        self._buckets = [bytearray() for _ in range(_BUCKETS)]
        self._is_sorted = True
        self.is_full = False
        """Whether a row was ignored because the set had reached `max_rows`."""

    def add(self, row: Iterable[str]) -> None:
        """Add a row, unless the set is full."""
        if not self._remaining:
            self.is_full = True
            return
        self._remaining -= 1
        digest = _digest(row)
        self._buckets[digest[0]] += digest
        self._is_sorted = False

    def __len__(self) -> int:
        """The number of distinct rows."""
        self._sort()
        return sum(map(len, self._buckets)) // _BYTES

    def __contains__(self, row: Iterable[str]) -> bool:
        """Whether the row was added."""
        self._sort()
        digest = _digest(row)
        bucket = self._buckets[digest[0]]

        def at(index: int) -> bytes:
            return bytes(bucket[index * _BYTES : (index + 1) * _BYTES])

        return at(bisect_left(range(len(bucket) // _BYTES), digest, key=at)) == digest

    def _sort(self) -> None:
        """Sort and deduplicate the digests. It works bucket by bucket, to keep the peak memory low."""
        if not self._is_sorted:
            for number, bucket in enumerate(self._buckets):
                self._buckets[number] = bytearray().join(sorted(set(_split(bucket))))
            self._is_sorted = True


def _digest(row: Iterable[str]) -> bytes:
    # The length before each text keeps rows apart: ("ab", "c") and ("a", "bc") get different digests.
    texts = "".join(f"{len(text)}:{text}" for text in row)
    return hashlib.blake2b(texts.encode(), digest_size=_BYTES).digest()


def _split(bucket: bytearray) -> Iterator[bytes]:
    return (bytes(bucket[start : start + _BYTES]) for start in range(0, len(bucket), _BYTES))
