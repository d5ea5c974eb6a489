"""The operators on a field: one row each.

To add one, write its row: how its operand is read (checked and converted, raising InvalidFilter at its place), what it
emits, and what it says in plain English. It emits alternatives: conditions on the field of which any must hold. Most
emit one; those on ISO dates emit one for each way that storage spells dates. Its words begin with a verb, which stands
behind the field's name. Then add its pairs to tests/data and its line to docs/filters.md.

Source of the semantics: MongoDB manual, query and projection operators. What MongoDB refuses is refused here.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from audience_service.domain.errors import FilterTooLarge, InvalidFilter
from audience_service.domain.filters.dates import ordered, spellings
from audience_service.domain.filters.filter import Document, at_index
from audience_service.domain.filters.patterns import DangerousPattern, check_backtracking
from audience_service.domain.filters.values import ValueReader
from audience_service.domain.filters.words.phrases import Words, of_bits, of_list, of_order, of_value
from audience_service.domain.filters.words.values import counted, cut

LOGICAL = ("$and", "$or", "$nor")
ON_RECORDS = ("$expr", "$inAudience", "$related")
"""Operators that stand in place of a field, these on whole records alone; parse.py knows them, and $not, $elemMatch
and $options, by name."""

Read = Callable[[Any, str, ValueReader], Any]
Emit = Callable[[Any], list[Document]]


@dataclass(frozen=True, slots=True)
class Operator:
    """One row."""

    name: str
    read: Read
    emit: Emit
    words: Words


@dataclass(frozen=True, slots=True)
class Pattern:
    """The operand of $regex with its $options."""

    text: str
    options: str


# BSON types by name and number that a stored record can hold, of MongoDB's $type.
_TYPES: dict[str, int] = {
    "double": 1, "string": 2, "object": 3, "array": 4, "binData": 5, "objectId": 7, "bool": 8, "date": 9, "null": 10,
    "regex": 11, "javascript": 13, "int": 16, "timestamp": 17, "long": 18, "decimal": 19, "minKey": -1, "maxKey": 127,
}  # fmt: skip
_TYPE_NAMES = frozenset(_TYPES) | {"number"}
_SHOWN_PATTERN = 200
_NAMES_BY_TYPE = {number: name for name, number in _TYPES.items()}


# What Python's patterns have and PCRE has not; what MongoDB refuses besides is told when the filter is run.
_PYTHON_ONLY = re.compile(r"\\N\{|\(\?[a-zA-Z-]*[auL][a-zA-Z-]*[:)]|\[\[:")


def _value(operand: Any, place: str, reader: ValueReader) -> Any:
    return reader.value(operand, place)


def _scalar(operand: Any, place: str, reader: ValueReader) -> Any:
    return reader.scalar(operand, place)


def _values(operand: Any, place: str, reader: ValueReader) -> Any:
    return reader.values(operand, place)


def _boolean(operand: Any, place: str, reader: ValueReader) -> bool:
    if not isinstance(operand, bool):
        raise InvalidFilter.at(place, "takes true or false")
    return operand


def _size(operand: Any, place: str, reader: ValueReader) -> int:
    whole = isinstance(operand, int) and not isinstance(operand, bool)
    if not whole or not 0 <= operand < 2**31:
        raise InvalidFilter.at(place, "takes a whole number of elements, 0 or more")
    return int(operand)


def _modulus(operand: Any, place: str, reader: ValueReader) -> list[int]:
    if not isinstance(operand, list) or len(operand) != 2:
        raise InvalidFilter.at(place, "takes [divisor, remainder], like [4, 0]")
    divisor, remainder = (_whole(item, at_index(place, index), reader) for index, item in enumerate(operand))
    if divisor == 0:
        raise InvalidFilter.at(at_index(place, 0), "is 0, by which nothing can be divided")
    return [divisor, remainder]


def _bits(operand: Any, place: str, reader: ValueReader) -> int | bytes | list[int]:
    if isinstance(operand, bytes):
        return operand
    if isinstance(operand, list):
        reader.values(operand, place)
        positions = [_whole(item, at_index(place, index), reader) for index, item in enumerate(operand)]
        if outside := [index for index, position in enumerate(positions) if not 0 <= position < 2**31]:
            raise InvalidFilter.at(at_index(place, outside[0]), "is no bit's position, which is 0 or more")
        return positions
    mask = _whole(operand, place, reader)
    if mask < 0:
        raise InvalidFilter.at(place, "is negative; a mask is a whole number, 0 or more, or a list of bits' positions")
    # By their positions, which mean the same: a mask past 32 bits is not taken everywhere.
    return mask if mask < 2**31 else [position for position in range(63) if mask >> position & 1]


def _whole(operand: Any, place: str, reader: ValueReader) -> int:
    number = reader.scalar(operand, place)
    if isinstance(number, float) and number.is_integer():
        return int(number)
    if not isinstance(number, int) or isinstance(number, bool):
        raise InvalidFilter.at(place, "takes a whole number")
    return number


def _types(operand: Any, place: str, reader: ValueReader) -> list[str | int]:
    named = operand if isinstance(operand, list) else [operand]
    if not named:
        raise InvalidFilter.at(place, "takes at least one type")
    if len(named) > len(_TYPE_NAMES) * 2:
        raise FilterTooLarge.at(place, "lists more types than there are", limit=str(len(_TYPE_NAMES) * 2))
    for index, name in enumerate(named):
        known = name in _TYPE_NAMES if isinstance(name, str) else type(name) is int and name in _TYPES.values()
        if not known:
            where = at_index(place, index) if isinstance(operand, list) else place
            raise InvalidFilter.at(where, f"is no BSON type; the names are {', '.join(sorted(_TYPE_NAMES))}")
    return named


def read_pattern(operand: Any, options: Any, place: str, options_place: str, reader: ValueReader) -> Pattern:
    """The pattern of $regex and $options. Raises InvalidFilter for what is not valid in both PCRE and Python."""
    if not isinstance(operand, str):
        raise InvalidFilter.at(place, 'takes a pattern as text, like "^Mun"')
    if not isinstance(options, str) or not set(options) <= set("imsx") or len(set(options)) < len(options):
        raise InvalidFilter.at(options_place, "takes letters out of imsx, each once")
    if len(operand) > reader.limits.pattern_length:
        limit = reader.limits.pattern_length
        raise FilterTooLarge.at(place, f"is a pattern longer than {limit:,} characters", limit=str(limit))
    if "\0" in operand:
        raise InvalidFilter.at(place, "is a pattern with a NUL character")
    if foreign := _PYTHON_ONLY.search(operand):
        raise InvalidFilter.at(place, f"holds {foreign[0]!r}, which PCRE does not know")
    reader.scalar(operand, place)
    flags = (re.VERBOSE if "x" in options else re.NOFLAG) | (re.IGNORECASE if "i" in options else re.NOFLAG)
    try:
        check_backtracking(operand, flags)
        re.compile(operand, flags)
    except DangerousPattern as error:
        raise InvalidFilter.at(place, f"{error}; such a pattern can take time without end") from None
    except (re.error, RecursionError, OverflowError) as error:
        raise InvalidFilter.at(place, f"is no regular expression: {error}") from None
    return Pattern(operand, options)


def _pattern(operand: Any, place: str, reader: ValueReader) -> Pattern:
    return read_pattern(operand, "", place, place, reader)


def _equal(operand: Any) -> list[Document]:
    values = spellings(operand)
    return [{"$eq": operand}] if len(values) == 1 else [{"$in": values}]


def _unequal(operand: Any) -> list[Document]:
    values = spellings(operand)
    return [{"$ne": operand}] if len(values) == 1 else [{"$nin": values}]


def _listed(name: str) -> Emit:
    return lambda operand: [{name: [spelling for value in operand for spelling in spellings(value)]}]


def _ordered(name: str) -> Emit:
    return lambda operand: ordered(name, operand)


def _as_read(name: str) -> Emit:
    return lambda operand: [{name: operand}]


def _matching(operand: Pattern) -> list[Document]:
    return [{"$regex": operand.text, "$options": operand.options} if operand.options else {"$regex": operand.text}]


def _exists_words(operand: bool) -> str:
    return "exists" if operand else "does not exist"


def _type_words(operand: list[str | int]) -> str:
    names = (name if isinstance(name, str) else _NAMES_BY_TYPE[name] for name in operand)
    return f"is of type {' or '.join(dict.fromkeys(names))}"


def _size_words(operand: int) -> str:
    return f"has exactly {counted(operand, 'element')}"


def _pattern_words(operand: Pattern) -> str:
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in operand.text)
    return f"matches /{cut(shown, _SHOWN_PATTERN)}/{operand.options}"


def _modulus_words(operand: list[int]) -> str:
    divisor, remainder = operand
    return f"leaves {remainder} when divided by {divisor}"


_ROWS = (
    Operator("$eq", _value, _equal, of_value("is {}", null="is null or missing")),
    Operator("$ne", _value, _unequal, of_value("is not {}", null="is neither null nor missing")),
    Operator("$gt", _scalar, _ordered("$gt"), of_order("$gt")),
    Operator("$gte", _scalar, _ordered("$gte"), of_order("$gte")),
    Operator("$lt", _scalar, _ordered("$lt"), of_order("$lt")),
    Operator("$lte", _scalar, _ordered("$lte"), of_order("$lte")),
    Operator("$in", _values, _listed("$in"), of_list("is one of {}")),
    Operator("$nin", _values, _listed("$nin"), of_list("is none of {}")),
    Operator("$all", _values, _as_read("$all"), of_list("has all of {}")),
    Operator("$exists", _boolean, _as_read("$exists"), _exists_words),
    Operator("$type", _types, _as_read("$type"), _type_words),
    Operator("$size", _size, _as_read("$size"), _size_words),
    Operator("$regex", _pattern, _matching, _pattern_words),
    Operator("$mod", _modulus, _as_read("$mod"), _modulus_words),
    Operator("$bitsAllSet", _bits, _as_read("$bitsAllSet"), of_bits("has all of the bits {} set")),
    Operator("$bitsAllClear", _bits, _as_read("$bitsAllClear"), of_bits("has all of the bits {} clear")),
    Operator("$bitsAnySet", _bits, _as_read("$bitsAnySet"), of_bits("has any of the bits {} set")),
    Operator("$bitsAnyClear", _bits, _as_read("$bitsAnyClear"), of_bits("has any of the bits {} clear")),
)

OPERATORS: dict[str, Operator] = {row.name: row for row in _ROWS}
"""The table by name."""
