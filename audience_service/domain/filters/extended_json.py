"""Filters as Extended JSON text, which keeps key order, integers and types exactly.

Source of the type wrappers: MongoDB Extended JSON (v2) specification, canonical and relaxed formats.
"""

import base64
import itertools
import json
import math
import re
from typing import Any

from bson import Int64, json_util
from bson.errors import BSONError

from audience_service.domain.core.errors import FilterTooLarge, InvalidFilter
from audience_service.domain.filters.filter import Filter

# bson's own object hook would also turn {"$regex": ...} into a value; a filter needs it as an operator.
_WRAPPERS = {"$date", "$oid", "$numberInt", "$numberLong", "$numberDouble", "$numberDecimal", "$binary", "$uuid"}
_OPTIONS = json_util.JSONOptions(json_mode=json_util.JSONMode.CANONICAL, tz_aware=True)
MAX_NESTING = 200
"""The deepest nesting of objects and lists: far more than Limits allow, far less than Python can read."""

_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"')
_BRACKETS = re.compile(r"[\[\]{}]")
_INT32, _INT64 = range(-(2**31), 2**31), range(-(2**63), 2**63)


def parse_text(text: str, field_path: str, size_bytes: int) -> dict[str, Any]:
    """The object in `text`, with its type wrappers as bson values.

    Raises InvalidFilter at `field_path` if the text is not a JSON object, or contains a duplicate key, NaN, Infinity,
    an integer above 64 bits or a malformed wrapper. Raises FilterTooLarge above `size_bytes` of UTF-8 or MAX_NESTING.
    """
    if len(text) > size_bytes or len(text.encode("utf-8", "surrogatepass")) > size_bytes:
        raise FilterTooLarge.at(field_path, f"exceeds the limit of {size_bytes:,} bytes", limit=str(size_bytes))
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer, parse_float=_fraction
        )
    except RecursionError:
        raise FilterTooLarge.at(field_path, f"exceeds the limit of {MAX_NESTING} nested objects and lists") from None
    except (ValueError, TypeError, LookupError, BSONError, ArithmeticError) as error:
        raise InvalidFilter.at(field_path, f"is not Extended JSON: {str(error)[:200]}") from None
    if _nesting(text) > MAX_NESTING:
        limit = MAX_NESTING
        raise FilterTooLarge.at(field_path, f"exceeds the limit of {limit} nested objects and lists", limit=str(limit))
    if not isinstance(value, dict):
        raise InvalidFilter.at(field_path, 'must be a JSON object, like {"country": "US"}')
    return value


def print_text(where: Any) -> str:
    """The Extended JSON of a filter, which parse_text reads back to the same value."""
    return json_util.dumps(where, json_options=json_util.JSONOptions(json_mode=json_util.JSONMode.CANONICAL))


def identity(value: Filter | None) -> list[Any] | None:
    """The filter as JSON values: equal for equal filters in any process, and different for different ones."""
    if value is None:
        return None
    if value.exact:
        return [value.datatype, None if value.where is None else print_text(value.where)]
    return [value.datatype, value.where]  # a Struct does not keep the order of keys


def _object(pairs: list[tuple[str, Any]]) -> Any:
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name in fields:
            raise ValueError(f"an object has the key {name[:100]!r} twice")
        fields[name] = value
    if len(fields) != 1:
        return fields
    [(name, value)] = fields.items()
    if name not in _WRAPPERS:
        return fields
    if not (isinstance(value, str | dict) or (name == "$date" and isinstance(value, Int64))):
        raise ValueError(f"{name} takes text, like {{{name!r}: ...}}")  # bson would generate a value for null
    if name == "$numberInt" and isinstance(value, str) and int(value) not in _INT32:
        raise ValueError(f"$numberInt {value[:30]} does not fit 32 bits")
    if name == "$binary" and isinstance(value, dict):
        base64.b64decode(str(value.get("base64", "")), validate=True)  # bson ignores invalid characters
    return json_util.object_hook(fields, _OPTIONS)


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _fraction(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"the number {digits[:30]} does not fit a double")
    return value


def _nesting(text: str) -> int:
    """The nesting depth of objects and lists in valid JSON."""
    steps = (1 if bracket in "{[" else -1 for bracket in _BRACKETS.findall(_STRINGS.sub("", text)))
    return max(itertools.accumulate(steps), default=0)


def _integer(digits: str) -> int:
    value = int(digits) if len(digits) <= 20 else 2**64
    if value not in _INT64:
        raise ValueError(f"the integer {digits[:30]} does not fit 64 bits")
    return value if value in _INT32 else Int64(value)
