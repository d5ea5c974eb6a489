"""Members in protobuf's wire format (protobuf.dev/programming-guides/encoding).

Filling messages takes three times as long: it looks up a map entry for each value. Here a field's key is encoded once,
and a member is one concatenation. Example, for the id "c-1" and the value "US" of the field "country":

    0a 16                          members[i], 22 bytes
       0a 03 c-1                   id
       12 0f                       fields, a Struct of 15 bytes
          0a 0d                    an entry, 13 bytes
             0a 07 country         its key
             12 02 ...             its value, whose first byte is the tag of its kind

Values of rare types are encoded as messages, by `encode_value`.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson import Int64

from audience_service.domain.core.record import Record
from audience_service.domain.schema.projection import MISSING, Projection, get_path
from audience_service.rpc.converters.structs import MAX_EXACT_INTEGER, encode_value, format_datetime

_MEMBERS, _ID, _FIELDS = b"\x0a", b"\x0a", b"\x12"
"""Tags of StreamMembersResponse.members, Member.id and Member.fields."""
_ENTRY, _KEY, _VALUE, _ITEM = b"\x0a", b"\x0a", b"\x12", b"\x0a"
"""Tags of Struct.fields, of an entry's key and value, and of ListValue.values."""
_NUMBER, _TEXT, _LIST = b"\x11", b"\x1a", b"\x32"
"""Tags of a Value's number_value, string_value and list_value."""
_CACHED_SIZES = 256
"""Texts below this number of bytes have a cached prefix."""

_pack_number = struct.Struct("<d").pack


@dataclass(frozen=True, slots=True)
class SerializedMembers:
    """A serialized StreamMembersResponse, and the number of members in it."""

    content: bytes
    member_count: int


def encode_members(records: Iterable[Record], fields: Projection) -> bytes:
    """The members of a StreamMembersResponse: ids and fields, as messages filled by `fill_struct` would have them."""
    keys = [(_Key(name), steps) for name, steps in fields.paths.items()]
    members: list[bytes] = []
    for record in records:
        parts: list[bytes] = []
        add = parts.append
        for key, steps in keys:
            value: Any = record
            for step in steps:
                if type(value) is not dict:
                    value = get_path(record, steps)
                    break
                value = value.get(step, MISSING)
            # Performance: this runs for every value of every member. The most common types come first.
            kind = type(value)
            if kind is str:
                text = value.encode()
                add(key.text_prefix(len(text)))
                add(text)
            elif (kind is int or kind is float or kind is Int64) and -MAX_EXACT_INTEGER < value < MAX_EXACT_INTEGER:
                add(key.number_prefix)
                add(_pack_number(value))
            elif value is MISSING:
                continue
            elif kind is datetime:
                text = format_datetime(value).encode()
                add(key.text_prefix(len(text)))
                add(text)
            else:
                content = _encode_list(value) if kind is list else encode_value(value).SerializeToString()
                add(key.prefix(len(content)))
                add(content)
        member = _delimited(_ID, str(record.get("pk", "")).encode())
        if parts:
            member += _delimited(_FIELDS, b"".join(parts))
        members.append(_delimited(_MEMBERS, member))
    return b"".join(members)


class _Key:
    """A field's key: the bytes that precede a value in a Struct."""

    def __init__(self, name: str) -> None:
        self._key = _delimited(_KEY, name.encode()) + _VALUE
        self._text_prefixes = [self._text_prefix(size) for size in range(_CACHED_SIZES)]
        self.number_prefix = self.prefix(9) + _NUMBER

    def prefix(self, size: int) -> bytes:
        """The bytes before a Value of `size` bytes."""
        length = _varint(size)
        return _ENTRY + _varint(len(self._key) + len(length) + size) + self._key + length

    def text_prefix(self, size: int) -> bytes:
        """The bytes before a text of `size` bytes."""
        return self._text_prefixes[size] if size < _CACHED_SIZES else self._text_prefix(size)

    def _text_prefix(self, size: int) -> bytes:
        tag_and_length = _TEXT + _varint(size)
        return self.prefix(len(tag_and_length) + size) + tag_and_length


def _encode_list(values: Sequence[Any]) -> bytes:
    """The Value of a list. Lists of texts are common, such as tags."""
    if not all(type(value) is str for value in values):
        return encode_value(values).SerializeToString()
    return _delimited(_LIST, b"".join(_delimited(_ITEM, _delimited(_TEXT, value.encode())) for value in values))


def _delimited(tag: bytes, content: bytes) -> bytes:
    return tag + _varint(len(content)) + content


def _encode_varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:  # seven bits a byte
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


_VARINTS = [_encode_varint(number) for number in range(2_048)]


def _varint(number: int) -> bytes:
    return _VARINTS[number] if number < len(_VARINTS) else _encode_varint(number)
