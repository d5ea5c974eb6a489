"""The operators on a field: one row each.

To add an operator, write its row:

1. `read` checks and converts the operand. It raises InvalidFilter at the operand's field path.
2. `emit` returns alternative conditions on the field, one of which must hold. Most operators emit one; operators on ISO
   dates emit one for each spelling of dates in storage. `match` replaces it if the condition depends on the path.
3. `describe` returns the predicate in plain English. It starts with a verb and follows the field's name.

Then add its pairs to tests/data, and its line to docs/reference/filters.md.

Source of the semantics: MongoDB manual, query and projection operators. What MongoDB refuses is refused here.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from bson import Regex

from audience_service.domain.core.error_path import at_index, at_key
from audience_service.domain.core.errors import FilterTooLarge, InvalidFilter
from audience_service.domain.filters.anniversaries import Anniversary, anniversary_match, no_element_conditions
from audience_service.domain.filters.buckets import BucketRange, bucket_match
from audience_service.domain.filters.calendar_days import OnDay, day_conditions, day_match
from audience_service.domain.filters.dates import compare_conditions, spellings
from audience_service.domain.filters.describe.phrases import (
    Describe,
    anniversary_phrase,
    bits_phrase,
    bucket_phrase,
    day_phrase,
    list_phrase,
    near_city_phrase,
    order_phrase,
    shape_phrase,
    text_phrase,
    value_phrase,
    zoned_phrase,
)
from audience_service.domain.filters.describe.values import format_count, truncate
from audience_service.domain.filters.filter import Document
from audience_service.domain.filters.folded_text import fold, patterns
from audience_service.domain.filters.geometry import read_shape
from audience_service.domain.filters.near_city import NearCity, near_city_conditions, near_city_match
from audience_service.domain.filters.pcre import UnsupportedPattern, translate
from audience_service.domain.filters.regex_safety import DangerousPattern, check_backtracking
from audience_service.domain.filters.relative_dates import is_integer
from audience_service.domain.filters.values import ValueReader
from audience_service.domain.filters.zoned_operands import zoned, zoned_conditions, zoned_match

LOGICAL = ("$and", "$or", "$nor")
CONSTANTS = ("$alwaysTrue", "$alwaysFalse")
"""Conditions that every record meets, or none. Their operand is 1."""
PATTERN_VALUE = "$regularExpression"
"""A regular expression as a value, in Extended JSON. Drivers write their own pattern type so."""
EXPRESSION_OPERATORS = ("$expr", "$tryExpr")
RECORD_OPERATORS = (*EXPRESSION_OPERATORS, "$inAudience", "$related", "$bucket")
"""Operators on complete records, written in place of a field. parser.py handles them, $not, $elemMatch and $options."""

Read = Callable[[Any, str, ValueReader], Any]
Emit = Callable[[Any], list[Document]]
Match = Callable[[str, Any, bool], Document]
"""From the path, the operand, and whether the path is in an element of a list ($elemMatch) instead of the record."""


@dataclass(frozen=True, slots=True)
class Operator:
    """One row of the table."""

    name: str
    read: Read
    emit: Emit
    describe: Describe
    match: Match | None = None
    """The complete match of a field at a path. On the elements of a list themselves `emit` applies."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """The operand of $regex with its $options."""

    text: str
    options: str

    def __str__(self) -> str:
        """The pattern between slashes, with its options."""
        shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in self.text)
        return f"/{truncate(shown, _MAX_SHOWN_PATTERN)}/{self.options}"


# The BSON types by name and number, deprecated ones included. Source: MongoDB manual, $type.
_TYPES: dict[str, int] = {
    "double": 1, "string": 2, "object": 3, "array": 4, "binData": 5, "undefined": 6, "objectId": 7, "bool": 8,
    "date": 9, "null": 10, "regex": 11, "dbPointer": 12, "javascript": 13, "symbol": 14, "javascriptWithScope": 15,
    "int": 16, "timestamp": 17, "long": 18, "decimal": 19, "minKey": -1, "maxKey": 127,
}  # fmt: skip
_TYPE_NAMES = frozenset(_TYPES) | {"number"}
_MAX_SHOWN_PATTERN, _MAX_FOLDED_TEXT = 200, 200
_MAX_CHECKED_PATTERNS = 2_048
_END = r"(?!\n)$"
"""The end of the text. In a pattern, $ also matches before a line break at the end."""
_NAMES_BY_TYPE = {number: name for name, number in _TYPES.items()}


# Options of Python's patterns that PCRE lacks. MongoDB reports anything else that it refuses when the filter runs.
_PYTHON_ONLY = re.compile(r"\(\?[a-zA-Z-]*[auL][a-zA-Z-]*[:)]")


def _value(operand: Any, field_path: str, reader: ValueReader) -> Any:
    return reader.value(operand, field_path)


def _values(operand: Any, field_path: str, reader: ValueReader) -> Any:
    if not isinstance(operand, list) or not any(map(is_pattern_value, operand)):
        return reader.values(operand, field_path)
    values = reader.values([None if is_pattern_value(item) else item for item in operand], field_path)
    return [
        read_pattern_value(item, at_index(field_path, index), reader) if is_pattern_value(item) else value
        for index, (item, value) in enumerate(zip(operand, values, strict=True))
    ]


def _boolean(operand: Any, field_path: str, reader: ValueReader) -> bool:
    if not isinstance(operand, bool | int | float) or operand != operand:
        raise InvalidFilter.at(field_path, "takes true or false")
    return bool(operand)


def _size(operand: Any, field_path: str, reader: ValueReader) -> int:
    if not is_integer(operand) or not 0 <= operand < 2**31:
        raise InvalidFilter.at(
            field_path,
            'takes an integer number of elements, 0 or more; for 2 or more write {"tags.1": {"$exists": true}}',
        )
    return int(operand)


def _modulus(operand: Any, field_path: str, reader: ValueReader) -> list[int]:
    if not isinstance(operand, list) or len(operand) != 2:
        raise InvalidFilter.at(field_path, "takes [divisor, remainder], like [4, 0]")
    divisor, remainder = (_integer(item, at_index(field_path, index), reader) for index, item in enumerate(operand))
    if divisor == 0:
        raise InvalidFilter.at(at_index(field_path, 0), "is 0; use a divisor other than 0")
    return [divisor, remainder]


def _bits(operand: Any, field_path: str, reader: ValueReader) -> int | bytes | list[int]:
    if isinstance(operand, bytes):
        return operand
    if isinstance(operand, list):
        reader.values(operand, field_path)
        positions = [_integer(item, at_index(field_path, index), reader) for index, item in enumerate(operand)]
        if outside := [index for index, position in enumerate(positions) if not 0 <= position < 2**31]:
            raise InvalidFilter.at(at_index(field_path, outside[0]), "is not a bit position; use 0 or more")
        return positions
    mask = _integer(operand, field_path, reader)
    if mask < 0:
        raise InvalidFilter.at(field_path, "is negative; use an integer mask of 0 or more, or a list of bit positions")
    # Positions mean the same, and some MongoDB versions refuse a mask above 32 bits.
    return mask if mask < 2**31 else [position for position in range(63) if mask >> position & 1]


def _integer(operand: Any, field_path: str, reader: ValueReader) -> int:
    number: Any = reader.scalar(operand, field_path)
    if not is_integer(number):
        raise InvalidFilter.at(field_path, "takes an integer")
    return int(number) if isinstance(number, float) else number


def _types(operand: Any, field_path: str, reader: ValueReader) -> list[str | int]:
    types = operand if isinstance(operand, list) else [operand]
    if not types:
        raise InvalidFilter.at(field_path, "takes at least one type")
    if len(types) > len(_TYPE_NAMES) * 2:
        raise FilterTooLarge.at(field_path, "lists more types than exist", limit=str(len(_TYPE_NAMES) * 2))
    for index, name in enumerate(types):
        is_known = name in _TYPE_NAMES if isinstance(name, str) else is_integer(name) and name in _TYPES.values()
        if not is_known:
            item_path = at_index(field_path, index) if isinstance(operand, list) else field_path
            raise InvalidFilter.at(item_path, f"is not a BSON type; the types are {', '.join(sorted(_TYPE_NAMES))}")
    return [name if isinstance(name, str) else int(name) for name in types]


def read_pattern(operand: Any, options: Any, field_path: str, options_path: str, reader: ValueReader) -> Pattern:
    """The pattern of $regex and $options. Raises InvalidFilter if PCRE refuses it, or if it is unbounded."""
    if is_pattern_value(operand):
        pattern = read_pattern_value(operand, field_path, reader)
        if pattern.options and options:
            raise InvalidFilter.at(options_path, "repeats the options of the pattern; write them once")
        operand, options = pattern.text, options or pattern.options
    if not isinstance(operand, str):
        raise InvalidFilter.at(field_path, 'takes a pattern as text, like "^Mun"')
    if not isinstance(options, str) or not set(options) <= set("imsxu") or len(set(options)) < len(options):
        raise InvalidFilter.at(options_path, "takes the letters i, m, s and x, each at most once; u has no effect")
    options = options.replace("u", "")  # MongoDB's patterns are always Unicode; Python's drivers send it
    reader.pattern(operand, field_path)
    if "\0" in operand:
        raise InvalidFilter.at(field_path, "contains a NUL character, which PCRE refuses; remove it")
    if foreign := _PYTHON_ONLY.search(operand):
        raise InvalidFilter.at(field_path, f"contains {foreign[0]!r}, which PCRE does not support")
    try:
        _check_pattern(operand, options)
    except UnsupportedPattern as error:
        raise InvalidFilter.at(field_path, str(error)) from None
    except DangerousPattern as error:
        raise InvalidFilter.at(field_path, f"{error}; such a pattern may take unreasonable time") from None
    except (re.error, RecursionError, OverflowError) as error:
        raise InvalidFilter.at(field_path, f"is not a regular expression: {error}") from None
    return Pattern(operand, options)


@lru_cache(_MAX_CHECKED_PATTERNS)
def _check_pattern(pattern: str, options: str) -> None:
    """Raise an error if PCRE refuses a pattern, or if it is unbounded. Remembers patterns that are right.

    A call parses its filter twice, to run it and to warn of it, and the check is the slowest part of that.
    """
    flags = (re.VERBOSE if "x" in options else re.NOFLAG) | (re.IGNORECASE if "i" in options else re.NOFLAG)
    translated = translate(pattern)
    flags |= re.IGNORECASE if translated.ignore_case else re.NOFLAG
    check_backtracking(translated.pattern, flags)
    re.compile(translated.pattern, flags)


def is_pattern_value(value: Any) -> bool:
    """Whether a value is a regular expression of Extended JSON: {"$regularExpression": {"pattern": "^Mun"}}."""
    return isinstance(value, Mapping) and list(value) == [PATTERN_VALUE]


def read_pattern_value(value: Mapping[str, Any], field_path: str, reader: ValueReader) -> Pattern:
    """The pattern of a regular expression of Extended JSON. Raises InvalidFilter as `read_pattern` does."""
    inner, here = value[PATTERN_VALUE], at_key(field_path, PATTERN_VALUE)
    if not isinstance(inner, Mapping) or not {"pattern"} <= set(inner) <= {"pattern", "options"}:
        raise InvalidFilter.at(here, 'takes {"pattern": "^Mun", "options": "i"}')
    options_path = at_key(here, "options")
    return read_pattern(inner["pattern"], inner.get("options", ""), at_key(here, "pattern"), options_path, reader)


def _pattern(operand: Any, field_path: str, reader: ValueReader) -> Pattern:
    return read_pattern(operand, "", field_path, field_path, reader)


def _texts(operand: Any, field_path: str, reader: ValueReader) -> list[str]:
    texts = reader.values(operand, field_path) if isinstance(operand, list) else [reader.text(operand, field_path)]
    if not texts:
        raise InvalidFilter.at(field_path, "takes text, or a list of one or more texts")
    for index, text in enumerate(texts):
        here = at_index(field_path, index) if isinstance(operand, list) else field_path
        if not isinstance(text, str) or not fold(text):
            raise InvalidFilter.at(here, "takes text of one or more letters")
        if len(text) > _MAX_FOLDED_TEXT:
            limit = str(_MAX_FOLDED_TEXT)
            raise FilterTooLarge.at(here, f"exceeds the limit of {limit} characters of a text", limit=limit)
    return texts


def _folded_conditions(start: str, end: str) -> Emit:
    return lambda texts: [{"$regex": pattern, "$options": "i"} for pattern in patterns(texts, start, end)]


def _equal(operand: Any) -> list[Document]:
    values = spellings(operand)
    return [{"$eq": operand}] if len(values) == 1 else [{"$in": values}]


def _unequal(operand: Any) -> list[Document]:
    values = spellings(operand)
    return [{"$ne": operand}] if len(values) == 1 else [{"$nin": values}]


def _list_conditions(name: str) -> Emit:
    return lambda operand: [{name: [spelling for value in operand for spelling in _spellings(value)]}]


def _spellings(value: Any) -> list[Any]:
    """The stored values that an item of a list stands for: a pattern matches as in MongoDB's lists."""
    return [Regex(value.text, value.options)] if isinstance(value, Pattern) else spellings(value)


def _order_conditions(name: str) -> Emit:
    return lambda operand: compare_conditions(name, operand)


def _all_condition(operand: list[Any]) -> list[Document]:
    return [{"$all": [Regex(item.text, item.options) if isinstance(item, Pattern) else item for item in operand]}]


def _plain_condition(name: str) -> Emit:
    return lambda operand: [{name: operand}]


def _regex_conditions(operand: Pattern) -> list[Document]:
    return [{"$regex": operand.text, "$options": operand.options} if operand.options else {"$regex": operand.text}]


def _describe_exists(operand: bool) -> str:
    return "exists" if operand else "does not exist"


def _describe_type(operand: list[str | int]) -> str:
    names = (name if isinstance(name, str) else _NAMES_BY_TYPE[name] for name in operand)
    return f"is of type {' or '.join(dict.fromkeys(names))}"


def _describe_size(operand: int) -> str:
    return f"has exactly {format_count(operand, 'element')}"


def _describe_pattern(operand: Pattern) -> str:
    return f"matches {operand}"


def _describe_modulus(operand: list[int]) -> str:
    divisor, remainder = operand
    return f"leaves {remainder} when divided by {divisor}"


def _zoned_row(name: str, read: Read, emit: Emit, describe: Describe, match: Match) -> Operator:
    """The row of an operator whose timezone may be that of each record."""
    return Operator(name, zoned(read), zoned_conditions(emit), zoned_phrase(describe), zoned_match(match))


_ROWS = (
    Operator("$eq", _value, _equal, value_phrase("is {}", null="is null or missing")),
    Operator("$ne", _value, _unequal, value_phrase("is not {}", null="is neither null nor missing")),
    Operator("$gt", _value, _order_conditions("$gt"), order_phrase("$gt")),
    Operator("$gte", _value, _order_conditions("$gte"), order_phrase("$gte")),
    Operator("$lt", _value, _order_conditions("$lt"), order_phrase("$lt")),
    Operator("$lte", _value, _order_conditions("$lte"), order_phrase("$lte")),
    Operator("$in", _values, _list_conditions("$in"), list_phrase("is one of {}")),
    Operator("$nin", _values, _list_conditions("$nin"), list_phrase("is none of {}")),
    Operator("$all", _values, _all_condition, list_phrase("has all of {}")),
    Operator("$exists", _boolean, _plain_condition("$exists"), _describe_exists),
    Operator("$type", _types, _plain_condition("$type"), _describe_type),
    Operator("$size", _size, _plain_condition("$size"), _describe_size),
    Operator("$regex", _pattern, _regex_conditions, _describe_pattern),
    Operator("$containsText", _texts, _folded_conditions("", ""), text_phrase("contains")),
    Operator("$startsWithText", _texts, _folded_conditions("^", ""), text_phrase("starts with")),
    Operator("$endsWithText", _texts, _folded_conditions("", _END), text_phrase("ends with")),
    Operator("$equalsText", _texts, _folded_conditions("^", _END), text_phrase("is")),
    _zoned_row("$onDay", OnDay.read, day_conditions, day_phrase, day_match),
    _zoned_row("$anniversary", Anniversary.read, no_element_conditions, anniversary_phrase, anniversary_match),
    Operator("$nearCity", NearCity.read, near_city_conditions, near_city_phrase, near_city_match),
    Operator("$geoWithin", read_shape, _plain_condition("$geoWithin"), shape_phrase),
    Operator("$mod", _modulus, _plain_condition("$mod"), _describe_modulus),
    Operator("$bitsAllSet", _bits, _plain_condition("$bitsAllSet"), bits_phrase("has all of the bits {} set")),
    Operator("$bitsAllClear", _bits, _plain_condition("$bitsAllClear"), bits_phrase("has all of the bits {} clear")),
    Operator("$bitsAnySet", _bits, _plain_condition("$bitsAnySet"), bits_phrase("has any of the bits {} set")),
    Operator("$bitsAnyClear", _bits, _plain_condition("$bitsAnyClear"), bits_phrase("has any of the bits {} clear")),
)

TEXT_OPERATORS = ("$containsText", "$startsWithText", "$endsWithText", "$equalsText")
"""Operators of the service that compare text regardless of case and accents. MongoDB does not have them."""

BUCKET = Operator("$bucket", BucketRange.read, lambda _: [], bucket_phrase, bucket_match)
"""The operator in place of a field that reads one field, `by`."""

COMPUTED_OPERATORS = ("$anniversary",)
"""Operators that compile to an expression. It reads complete records, and neither indexes of lists nor keys with $."""

OPERATORS: dict[str, Operator] = {row.name: row for row in _ROWS}
"""The rows by name."""
