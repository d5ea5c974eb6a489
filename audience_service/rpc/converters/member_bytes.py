"""Members in protobuf's wire format (protobuf.dev/programming-guides/encoding).

Filling messages takes several times as long: it looks up a map entry for each value. Here a field's key is encoded once
a batch, equal texts and numbers of a field once, and a member is one concatenation. Example, for the id "c-1" and the
value "US" of the field "country":

    0a 16                          members[i], 22 bytes
       0a 03 c-1                   id
       12 0f                       fields, a Struct of 15 bytes
          0a 0d                    an entry, 13 bytes
             0a 07 country         its key
             12 02 ...             its value, whose first byte is the tag of its kind

Values of rare types are encoded as messages, by `encode_value`.
"""

import itertools
import struct
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import bson
from bson import Int64
from bson.codec_options import CodecOptions, DatetimeConversion

from audience_service.domain.core.documents import Documents
from audience_service.domain.core.record import Record
from audience_service.domain.schema.projection import MISSING, Projection, get_path
from audience_service.rpc.converters.structs import MAX_EXACT_INTEGER, encode_value, format_datetime

_MEMBERS, _ID, _FIELDS = b"\x0a", b"\x0a", b"\x12"
"""Tags of StreamMembersResponse.members, Member.id and Member.fields."""
_ENTRY, _KEY, _VALUE, _ITEM = b"\x0a", b"\x0a", b"\x12", b"\x0a"
"""Tags of Struct.fields, of an entry's key and value, and of ListValue.values."""
_NUMBER, _TEXT, _LIST = b"\x11", b"\x1a", b"\x32"
"""Tags of a Value's number_value, string_value and list_value."""

_NAIVE_DATES: CodecOptions[Mapping[str, Any]] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_AUTO)
"""Decodes dates without their timezone, which is UTC: to decode and to format them takes half the time then."""

_pack_number = struct.Struct("<d").pack


@dataclass(frozen=True, slots=True)
class SerializedMembers:
    """A serialized StreamMembersResponse, and the number of members in it."""

    content: bytes
    member_count: int


def encode_members(members: Documents | Sequence[Record], fields: Projection) -> bytes:
    """The members of a StreamMembersResponse: ids and fields, as messages filled by `fill_struct` would have them."""
    # Performance: this runs for every value of every member. Comprehensions over a column of values, with a cached
    # encoder for each type, take half the time of a loop over the values of each member.
    records = bson.decode_all(members.content, _NAIVE_DATES) if isinstance(members, Documents) else members
    columns = []
    for name, steps in fields.paths.items():
        encoders = _Key(name).encoders()
        columns.append([encoders[type(value)](value) for value in _column(records, steps)])
    rows = zip(*columns, strict=True) if columns else itertools.repeat(())
    parts: list[bytes] = []
    for record, row in zip(records, rows, strict=False):  # the repeated row has no end
        member = _delimited(_ID, str(record.get("pk", "")).encode())
        values = b"".join(row)
        if values:
            member += _FIELDS + _varint(len(values)) + values
        parts += (_MEMBERS, _varint(len(member)), member)
    return b"".join(parts)


def _column(records: Sequence[Record], steps: Sequence[str]) -> list[Any]:
    """Each record's value at a path, as of `get_path`."""
    *parents, last = steps
    owners: Sequence[Any] = records
    for step in parents:
        owners = [owner.get(step) if type(owner) is dict else None for owner in owners]
    return [
        owner.get(last, MISSING) if type(owner) is dict else get_path(record, steps)
        for owner, record in zip(owners, records, strict=True)
    ]


class _Key:
    """A field's key in a Struct, and the encoders of its values. An entry is the key with one value."""

    def __init__(self, name: str) -> None:
        self._key = _delimited(_KEY, name.encode()) + _VALUE
        self._text_prefix = cache(self._make_text_prefix)
        self._number_prefix = self._prefix(9) + _NUMBER
        self._cached_texts = cache(self._texts)

    def encoders(self) -> Mapping[type, Callable[[Any], bytes]]:
        """The encoder of an entry for each type of value. Their caches live as long as the mapping."""
        # 1, 1.0 and True are equal, so each encoder has a cache of its own. 0.0 and -0.0 are, so floats have none.
        integer = cache(self._number)
        common: dict[type, Callable[[Any], bytes]] = {
            str: cache(self._text),
            int: integer,
            Int64: integer,
            float: self._number,
            datetime: self._date,
            list: self._list,
            type(MISSING): lambda _: b"",
        }
        return defaultdict(lambda: self._other, common)

    def _text(self, value: str) -> bytes:
        text = value.encode()
        return self._text_prefix(len(text)) + text

    def _date(self, value: datetime) -> bytes:
        return self._text(format_datetime(value))

    def _number(self, value: float) -> bytes:
        if -MAX_EXACT_INTEGER < value < MAX_EXACT_INTEGER:
            return self._number_prefix + _pack_number(value)
        return self._other(value)

    def _list(self, values: list[Any]) -> bytes:
        try:
            texts = self._cached_texts(tuple(values))
        except TypeError:  # an item has no hash, so it is no text
            texts = None
        return self._other(values) if texts is None else texts

    def _texts(self, values: tuple[Any, ...]) -> bytes | None:
        """The entry of a list of texts, such as tags; None for any other list."""
        if not all(type(value) is str for value in values):
            return None
        items = b"".join(_delimited(_ITEM, _delimited(_TEXT, value.encode())) for value in values)
        content = _delimited(_LIST, items)
        return self._prefix(len(content)) + content

    def _other(self, value: Any) -> bytes:
        content = encode_value(value).SerializeToString()
        return self._prefix(len(content)) + content

    def _prefix(self, size: int) -> bytes:
        """The bytes before a Value of `size` bytes."""
        length = _varint(size)
        return _ENTRY + _varint(len(self._key) + len(length) + size) + self._key + length

    def _make_text_prefix(self, size: int) -> bytes:
        """The bytes before a text of `size` bytes."""
        tag_and_length = _TEXT + _varint(size)
        return self._prefix(len(tag_and_length) + size) + tag_and_length


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
