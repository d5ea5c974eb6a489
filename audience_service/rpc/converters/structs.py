"""Between protobuf's JSON-like types and plain values."""

import base64
import json
import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import NullValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from audience_service.domain.core.errors import InvalidArgument

_MAX_EXACT_INTEGER = 2**53

# Readers of protobuf stop at 100 messages inside one another; a list in a Struct takes two of them, an object three,
# and a Struct stands up to three deep in an answer. What lies deeper is written as JSON text.
_ROOT_DEPTH, _MAX_DEPTH = 6, 97


def encode_timestamp(value: datetime | None) -> Timestamp | None:
    """The moment, or nothing."""
    if value is None:
        return None
    message = Timestamp()
    message.FromDatetime(value)
    return message


def decode_timestamp(message: Timestamp, field_path: str) -> datetime:
    """The moment, in microseconds. Raises InvalidArgument at the place for one that no calendar has."""
    try:
        return message.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise InvalidArgument.at(field_path, "is no moment from the year 1 to 9999") from None


def decode_duration(message: Duration, field_path: str) -> timedelta:
    """The length of time, in microseconds. Raises InvalidArgument at the place for one past 999,999,999 days."""
    try:
        return message.ToTimedelta()
    except OverflowError:
        raise InvalidArgument.at(field_path, "is past 999,999,999 days") from None


def decode_struct(message: Struct) -> dict[str, Any]:
    """A Struct as an object; numbers that are whole become integers, as JSON readers elsewhere make them."""
    return {key: _decode_value(value) for key, value in message.fields.items()}


def encode_struct(value: Mapping[str, Any]) -> Struct:
    """An object as a Struct; values that JSON lacks become text, as Member.fields states."""
    message = Struct()
    fill_struct(message, value.items())
    return message


def fill_struct(message: Struct, items: Iterable[tuple[str, Any]]) -> None:
    """Put the items into a Struct, as `write_struct` would."""
    _fill(message, items, _ROOT_DEPTH)


def encode_value(value: Any, depth: int = _ROOT_DEPTH) -> Value:
    """A value as it stands in a Struct; `depth` is how many messages deep it stands in the answer."""
    message = Value()
    _set(message, value, depth)
    return message


def _decode_value(value: Value) -> Any:
    match value.WhichOneof("kind"):
        case "number_value":
            number = value.number_value
            return int(number) if abs(number) < _MAX_EXACT_INTEGER and number.is_integer() else number
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return decode_struct(value.struct_value)
        case "list_value":
            return [_decode_value(item) for item in value.list_value.values]
        case _:
            return None


def _fill(message: Struct, items: Iterable[tuple[str, Any]], depth: int) -> None:
    fields = message.fields
    for key, item in items:
        if type(item) is str:  # the commonest by far: spared a call
            fields[key].string_value = item
        else:
            _set(fields[key], item, depth)


def _set(message: Value, value: Any, depth: int) -> None:
    # Set in place, the commonest first: this runs for every value of every member, and building a Value for each and
    # handing it over takes twice the time.
    match value:
        case str():
            message.string_value = value
        case bool():
            message.bool_value = value
        case int() if abs(value) < _MAX_EXACT_INTEGER:
            message.number_value = value
        case float() if math.isfinite(value):
            message.number_value = value
        case None:
            message.null_value = NullValue.NULL_VALUE
        case datetime():
            message.string_value = _format_datetime(value)
        case list() | Mapping() if depth > _MAX_DEPTH:
            message.string_value = json.dumps(value, default=str, ensure_ascii=False)
        case list():
            values = message.list_value.values
            if not value:
                message.list_value.SetInParent()  # an empty list is a list too
            for item in value:
                if type(item) is str:
                    values.add().string_value = item
                else:
                    _set(values.add(), item, depth + 2)
        case bytes():
            message.string_value = base64.b64encode(value).decode()
        case Mapping():
            message.struct_value.SetInParent()
            _fill(message.struct_value, value.items(), depth + 3)
        case _:
            message.string_value = str(value)


def _format_datetime(value: datetime) -> str:
    """The platform's spelling: UTC with milliseconds."""
    text = value.isoformat(timespec="milliseconds")
    if text.endswith("+00:00"):  # as the database's dates are
        return text.removesuffix("+00:00") + "Z"
    return _format_datetime(value.astimezone(UTC)) if value.tzinfo else f"{text}Z"
