"""Filters written as Extended JSON text: exact in key order, integers and types.

Source of the type wrappers: MongoDB Extended JSON (v2) specification, canonical and relaxed formats.
"""

import json
from typing import Any

from bson import Int64, json_util
from bson.errors import BSONError

from audience_service.domain.errors import FilterTooLarge, InvalidFilter

# bson's own object hook would also turn {"$regex": ...} into a value; a filter needs it as an operator.
_WRAPPERS = {"$date", "$oid", "$numberInt", "$numberLong", "$numberDouble", "$numberDecimal", "$binary", "$uuid"}
_OPTIONS = json_util.JSONOptions(json_mode=json_util.JSONMode.CANONICAL, tz_aware=True)
_INT32, _INT64 = range(-(2**31), 2**31), range(-(2**63), 2**63)


def parse_text(text: str, place: str, size_bytes: int) -> dict[str, Any]:
    """The object that `text` holds, its wrappers turned into bson values.

    Raises InvalidFilter, naming `place`, for text that is no JSON object, holds a key twice, NaN, Infinity, an integer
    past 64 bits or a malformed wrapper; FilterTooLarge for more than `size_bytes` of UTF-8 or absurd nesting.
    """
    if len(text) > size_bytes or len(text.encode("utf-8", "surrogatepass")) > size_bytes:
        raise FilterTooLarge.at(place, f"is larger than {size_bytes:,} bytes", limit=str(size_bytes))
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer)
    except RecursionError:
        raise FilterTooLarge.at(place, "is nested too deeply to be read") from None
    except (ValueError, TypeError, BSONError, OverflowError, ArithmeticError) as error:
        raise InvalidFilter.at(place, f"is not Extended JSON: {str(error)[:200]}") from None
    if not isinstance(value, dict):
        raise InvalidFilter.at(place, 'must be a JSON object, like {"country": "US"}')
    return value


def print_text(where: Any) -> str:
    """The Extended JSON of a filter, which parse_text reads back to the same value."""
    return json_util.dumps(where, json_options=json_util.JSONOptions(json_mode=json_util.JSONMode.CANONICAL))


def _object(pairs: list[tuple[str, Any]]) -> Any:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:100]!r} stands twice in one object")
    if len(fields) == 1 and next(iter(fields)) in _WRAPPERS:
        return json_util.object_hook(fields, _OPTIONS)
    return fields


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _integer(digits: str) -> int:
    value = int(digits) if len(digits) <= 20 else 2**64
    if value not in _INT64:
        raise ValueError(f"the integer {digits[:30]} does not fit 64 bits")
    return value if value in _INT32 else Int64(value)
