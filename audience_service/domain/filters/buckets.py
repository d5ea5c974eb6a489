"""The operator $bucket: a stable random share of the records, by the hash of a value.

    {"$bucket": {"salt": "spring-test", "of": 100, "from": 0, "below": 10, "by": "pk"}}      10 % of the contacts

The bucket of a record is the number that the last four digits of MongoDB's hash of `spring-test/<value>` leave when
divided by 100. Another salt gives other buckets, independent of these.

1. `of` divides 10,000, so every bucket has the same number of last digits.
2. Values are text, ObjectIds and whole numbers, which count as their text. Records with other values are in no bucket.
3. The hash is that of hashed indexes ($toHashedIndexKey). `hashed_index_key` is its twin in Python. Source: MongoDB's
   BSONElementHasher: MD5 over the hash seed 0, the canonical type of text 15, its length with NUL, the text and NUL.
   The first 8 bytes are a little-endian integer.
"""

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from audience_service.domain.core.error_path import at_key
from audience_service.domain.core.errors import InvalidFilter
from audience_service.domain.filters.filter import Document
from audience_service.domain.filters.relative_dates import is_integer as spells_integer
from audience_service.domain.filters.values import ValueReader

HASH_VECTOR = ("string to hash", 763543691661428748)
"""A text, and its hash by MongoDB's manual ($toHashedIndexKey)."""

_DIGITS = 4
_MODULUS = 10**_DIGITS
_MAX_SALT = 100
_REQUIRED, _OPTIONAL = ("salt", "of", "from", "below"), ("by",)
_EXACT_IN_DOUBLE = 2**53


@dataclass(frozen=True, slots=True)
class BucketRange:
    """The buckets from `first` up to `below`, of `count` buckets that a salt makes."""

    salt: str
    count: int
    first: int
    below: int

    @classmethod
    def read(cls, operand: Any, field_path: str, reader: ValueReader) -> Self:
        """The operand of $bucket, without `by`. Raises InvalidFilter."""
        if not isinstance(operand, Mapping):
            raise InvalidFilter.at(field_path, 'takes {"salt": "spring-test", "of": 100, "from": 0, "below": 10}')
        for name in operand:
            if name not in (*_REQUIRED, *_OPTIONAL):
                raise InvalidFilter.at(at_key(field_path, name), f"is not one of {', '.join((*_REQUIRED, *_OPTIONAL))}")
        if missing := [name for name in _REQUIRED if name not in operand]:
            raise InvalidFilter.at(field_path, f"lacks {missing[0]}; it takes {', '.join(_REQUIRED)}, and by")
        salt = reader.text(operand["salt"], at_key(field_path, "salt"))
        if not 0 < len(salt) <= _MAX_SALT:
            raise InvalidFilter.at(at_key(field_path, "salt"), f"takes text of 1 to {_MAX_SALT} characters")
        count = _integer(operand["of"], at_key(field_path, "of"), 1, _MODULUS)
        if _MODULUS % count:
            text = f"must divide {_MODULUS:,}, so that buckets are of one size, like 2, 4, 10, 20, 100 or 1000"
            raise InvalidFilter.at(at_key(field_path, "of"), text)
        first = _integer(operand["from"], at_key(field_path, "from"), 0, count - 1)
        below = _integer(operand["below"], at_key(field_path, "below"), first + 1, count)
        return cls(salt, count, first, below)


def hashed_index_key(text: str) -> int:
    """MongoDB's $toHashedIndexKey of a text, as a signed integer of 64 bits."""
    encoded = text.encode()
    data = struct.pack("<iii", 0, 15, len(encoded) + 1) + encoded + b"\0"
    [number] = struct.unpack("<q", hashlib.md5(data, usedforsecurity=False).digest()[:8])
    return int(number)


def bucket_of(value: str, salt: str, count: int) -> int:
    """The bucket of a value's text, of `count` buckets."""
    return abs(int(str(hashed_index_key(f"{salt}/{value}"))[-_DIGITS:])) % count


def bucket_match(path: str, operand: BucketRange, _in_element: bool) -> Document:
    """The match of the records whose value at a path is in one of the buckets."""
    in_range = {"$and": [{"$gte": ["$$bucket", operand.first]}, {"$lt": ["$$bucket", operand.below]}]}
    found = {"$let": {"vars": {"bucket": bucket_expression(path, operand)}, "in": in_range}}
    return {"$expr": found}


def bucket_expression(path: str, operand: BucketRange) -> Document:
    """The expression of the bucket of the value at a path; null if the value is in none."""
    value = f"${path}"
    exact = {"$and": [{"$gt": [value, -_EXACT_IN_DOUBLE]}, {"$lt": [value, _EXACT_IN_DOUBLE]}]}
    is_double = {"$cond": [exact, {"$eq": [value, {"$trunc": [value]}]}, False]}
    number = {"$toString": {"$convert": {"input": value, "to": "long", "onError": None, "onNull": None}}}
    is_text = {"$in": [{"$type": value}, ["string", "objectId"]]}
    is_integer = {"$in": [{"$type": value}, ["int", "long"]]}
    is_whole = {"$cond": [is_integer, True, {"$cond": [{"$eq": [{"$type": value}, "double"]}, is_double, False]}]}
    text = {"$cond": [is_text, {"$toString": value}, {"$cond": [is_whole, number, None]}]}
    salted = {"$concat": [{"$literal": f"{operand.salt}/"}, "$$text"]}
    digits = {"$toString": {"$toHashedIndexKey": salted}}
    start = {"$max": [0, {"$subtract": [{"$strLenCP": "$$digits"}, _DIGITS]}]}
    last = {"$convert": {"input": {"$substrCP": ["$$digits", start, _DIGITS]}, "to": "int", "onError": 0, "onNull": 0}}
    bucket = {"$mod": [{"$abs": last}, operand.count]}
    found = {"$let": {"vars": {"digits": digits}, "in": bucket}}
    has_text = {"$ne": ["$$text", None]}
    return {"$let": {"vars": {"text": text}, "in": {"$cond": [has_text, found, None]}}}


def _integer(value: Any, field_path: str, minimum: int, maximum: int) -> int:
    if not spells_integer(value) or not minimum <= value <= maximum:
        raise InvalidFilter.at(field_path, f"takes an integer from {minimum:,} to {maximum:,}")
    return int(value)
