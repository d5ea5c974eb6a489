"""Members in protobuf's wire format (protobuf.dev/programming-guides/encoding).

Filling messages takes several times as long: it looks up a map entry for each value. Here a field's key is encoded once
a batch, and a member is one concatenation. Example, for the id "c-1" and the
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
from collections.abc import Callable, Iterator, Mapping, Sequence
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

_NUMBER_SIZE, _DATE_SIZE = 9, 24
"""The sizes of a Value with a number, and of a date as text, in the years 1 to 9999."""
_MAX_CACHED_SIZE = 16_384
"""Longer content is rare. Its prefixes are not cached."""

_EMPTY: Record = {}

_pack_number = struct.Struct("<d").pack


@dataclass(frozen=True, slots=True)
class SerializedMembers:
    """A serialized StreamMembersResponse, and the number of members in it."""

    content: bytes
    member_count: int


def encode_members(members: Documents | Sequence[Record], fields: Projection) -> bytes:
    """The members of a StreamMembersResponse: ids and fields, as messages filled by `fill_struct` would have them."""
    # Performance: this runs for every value of every member. Comprehensions over a column of values, with an encoder
    # for each type, take half the time of a loop over the values of each member.
    records = bson.decode_all(members.content, _NAIVE_DATES) if isinstance(members, Documents) else members
    columns = []
    for name, values in _columns(records, fields):
        encoders = _encoders(name)
        columns.append([encoders[type(value)](value) for value in values])
    rows = map(b"".join, zip(*columns, strict=True)) if columns else itertools.repeat(b"")
    parts: list[bytes] = []
    for record, entries in zip(records, rows, strict=False):  # the repeated row has no end
        contact_id = str(record.get("pk", "")).encode()
        member = _ID_PREFIXES[len(contact_id)] + contact_id
        if entries:
            member += _FIELDS_PREFIXES[len(entries)] + entries
        parts += (_MEMBER_PREFIXES[len(member)], member)
    return b"".join(parts)


def _columns(records: Sequence[Record], fields: Projection) -> Iterator[tuple[str, list[Any]]]:
    """The fields, each with every record's value, as of `get_path`."""

    @cache
    def owners(path: tuple[str, ...]) -> Sequence[Record] | None:
        """Each record's object at the path, empty if it has none. None if a record has another value there."""
        outer = owners(path[:-1]) if path else None
        if outer is None:
            return None if path else records
        found = [owner.get(path[-1], _EMPTY) for owner in outer]
        return found if set(map(type, found)) <= {dict} else None

    for name, steps in fields.paths.items():
        found = owners(steps[:-1])
        if found is None:
            yield name, [get_path(record, steps) for record in records]
        else:
            last = steps[-1]
            yield name, [owner.get(last, MISSING) for owner in found]


def _encoders(name: str) -> Mapping[type, Callable[[Any], bytes]]:
    """The encoder of a field's entry for each type of value. An entry is the field's key with one value."""
    key = _delimited(_KEY, name.encode()) + _VALUE

    def prefix(size: int) -> bytes:
        """The bytes before a Value of `size` bytes."""
        length = _varint(size)
        return _ENTRY + _varint(len(key) + len(length) + size) + key + length

    def text_prefix(size: int) -> bytes:
        """The bytes before a text of `size` bytes."""
        tag_and_length = _TEXT + _varint(size)
        return prefix(len(tag_and_length) + size) + tag_and_length

    text_prefixes = _Prefixes(text_prefix)
    date_prefix, number_prefix = text_prefix(_DATE_SIZE), prefix(_NUMBER_SIZE) + _NUMBER

    def encode_text(value: str) -> bytes:
        text = value.encode()
        return text_prefixes[len(text)] + text

    def encode_date(value: datetime) -> bytes:
        return date_prefix + format_datetime(value).encode()

    def encode_number(value: float) -> bytes:
        if -MAX_EXACT_INTEGER < value < MAX_EXACT_INTEGER:
            return number_prefix + _pack_number(value)
        return encode_other(value)

    @cache
    def encode_texts(values: tuple[Any, ...]) -> bytes | None:
        """The entry of a list of texts, such as tags; None for any other list."""
        if not all(type(value) is str for value in values):
            return None
        items = b"".join(_delimited(_ITEM, _delimited(_TEXT, value.encode())) for value in values)
        content = _delimited(_LIST, items)
        return prefix(len(content)) + content

    def encode_list(values: list[Any]) -> bytes:
        try:
            texts = encode_texts(tuple(values))
        except TypeError:  # an item has no hash, so it is no text
            texts = None
        return encode_other(values) if texts is None else texts

    def encode_other(value: Any) -> bytes:
        content = encode_value(value).SerializeToString()
        return prefix(len(content)) + content

    # 1, 1.0 and True are equal, and so are 0.0 and -0.0: only integers have a cache.
    encode_integer = cache(encode_number)
    common: dict[type, Callable[[Any], bytes]] = {
        str: encode_text,
        int: encode_integer,
        Int64: encode_integer,
        float: encode_number,
        datetime: encode_date,
        list: encode_list,
        type(MISSING): lambda _: b"",
    }
    return defaultdict(lambda: encode_other, common)


class _Prefixes(dict[int, bytes]):
    """The bytes before content, by its length."""

    def __init__(self, make: Callable[[int], bytes]) -> None:
        self._make = make

    def __missing__(self, size: int) -> bytes:
        prefix = self._make(size)
        if size < _MAX_CACHED_SIZE:
            self[size] = prefix
        return prefix


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


_MEMBER_PREFIXES = _Prefixes(lambda size: _MEMBERS + _varint(size))
_ID_PREFIXES = _Prefixes(lambda size: _ID + _varint(size))
_FIELDS_PREFIXES = _Prefixes(lambda size: _FIELDS + _varint(size))
