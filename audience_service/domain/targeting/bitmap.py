"""Sets of nodes as integers with a bit for each node.

For example, the nodes 0 and 3 are `0b1001`. Intersecting and counting tens of thousands of nodes takes microseconds.
"""

import re
import struct
from collections.abc import Iterable, Iterator

Bitmap = int

_NONZERO_OCTET = re.compile(rb"[^\0]")
_BITS = tuple(tuple(bit for bit in range(8) if octet >> bit & 1) for octet in range(256))
"""The bits that are set in each octet."""


def bitmap(numbers: Iterable[int]) -> Bitmap:
    """The set of these numbers."""
    listed = list(numbers)
    octets = bytearray(max(listed, default=0) // 8 + 1)
    for number in listed:
        octets[number >> 3] |= 1 << (number & 7)
    return int.from_bytes(octets, "little")


def members(bits: Bitmap, after: int = -1) -> Iterator[int]:
    """The numbers in a set that are greater than `after`, in order."""
    rest = bits >> (after + 1)
    octets = rest.to_bytes(rest.bit_length() // 8 + 1, "little")
    for match in _NONZERO_OCTET.finditer(octets):
        index = match.start()
        for bit in _BITS[octets[index]]:
            yield after + 1 + 8 * index + bit


def pack(numbers: Iterable[int]) -> bytes:
    """A set as bytes for the store: four bytes for each number, or the bitmap if that is shorter."""
    listed = sorted(set(numbers))
    bitmap_length = listed[-1] // 8 + 1 if listed else 0
    if 4 * len(listed) <= bitmap_length:
        return b"n" + struct.pack(f"<{len(listed)}I", *listed)
    return b"b" + bitmap(listed).to_bytes(bitmap_length, "little")


def unpack(packed: bytes) -> Bitmap:
    """The set that `pack` has packed."""
    content = packed[1:]
    if packed[:1] == b"n":
        return bitmap(struct.unpack(f"<{len(content) // 4}I", content))
    return int.from_bytes(content, "little")
