"""Many rows, remembered by their digests: how many different ones there are, and whether one is among them."""

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator

_BYTES = 12
"""Of a digest. Among ten million different rows there are two with the same one once in 10**15 times."""
_BUCKETS = 256


class Digests:
    """Takes 12 bytes a row, of which a million are 12 MB; a set would take a hundred. Past `most` none is taken in."""

    def __init__(self, max_rows: int) -> None:
        self._remaining = max_rows
        self._buckets = [bytearray() for _ in range(_BUCKETS)]
        self._is_sorted = True
        self.is_full = False
        """Whether more came than are remembered."""

    def add(self, row: Iterable[str]) -> None:
        """Remember a row."""
        if not self._remaining:
            self.is_full = True
            return
        self._remaining -= 1
        digest = _digest(row)
        self._buckets[digest[0]] += digest
        self._is_sorted = False

    def __len__(self) -> int:
        """How many different rows there are among those remembered."""
        self._sort()
        return sum(map(len, self._buckets)) // _BYTES

    def __contains__(self, row: Iterable[str]) -> bool:
        """Whether the row is among those remembered."""
        self._sort()
        digest = _digest(row)
        bucket = self._buckets[digest[0]]

        def at(index: int) -> bytes:
            return bytes(bucket[index * _BYTES : (index + 1) * _BYTES])

        return at(bisect_left(range(len(bucket) // _BYTES), digest, key=at)) == digest

    def _sort(self) -> None:
        """Leave each digest once, in order, a bucket at a time, so that little more is held than there is."""
        if not self._is_sorted:
            for number, bucket in enumerate(self._buckets):
                self._buckets[number] = bytearray().join(sorted(set(_split(bucket))))
            self._is_sorted = True


def _digest(row: Iterable[str]) -> bytes:
    # With their lengths in front, so that a character may not pass for the end of a text.
    texts = "".join(f"{len(text)}:{text}" for text in row)
    return hashlib.blake2b(texts.encode(), digest_size=_BYTES).digest()


def _split(bucket: bytearray) -> Iterator[bytes]:
    return (bytes(bucket[start : start + _BYTES]) for start in range(0, len(bucket), _BYTES))
