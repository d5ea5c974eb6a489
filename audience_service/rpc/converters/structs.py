"""Converters between protobuf's Struct, Timestamp and Duration and plain Python values."""

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

MAX_EXACT_INTEGER = 2**53
"""The least positive integer that a double, such as a number of JSON, may fail to distinguish from the next."""

_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# Protobuf parsers accept at most 100 levels of nested messages. In a Struct a list takes two levels, an object three.
# A response nests a Struct up to three levels deep. Deeper values are encoded as JSON text.
_ROOT_DEPTH, _MAX_DEPTH = 6, 97


def encode_timestamp(value: datetime | None) -> Timestamp | None:
    """The Timestamp of a time, None for None. A time without a timezone is in UTC."""
    if value is None:
        return None
    since = (value if value.tzinfo else value.replace(tzinfo=UTC)) - _UNIX_EPOCH
    # Performance: a quarter of the time of FromDatetime.
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1_000)


def decode_timestamp(message: Timestamp, field_path: str) -> datetime:
    """The time in UTC, in microseconds. Raises InvalidArgument at `field_path` outside the years 1 to 9999."""
    try:
        return message.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise InvalidArgument.at(field_path, "is not a valid timestamp; use a time in the years 1 to 9999") from None


def decode_duration(message: Duration, field_path: str) -> timedelta:
    """The duration, in microseconds. Raises InvalidArgument at `field_path` above 999,999,999 days."""
    try:
        return message.ToTimedelta()
    except OverflowError:
        raise InvalidArgument.at(field_path, "is too long; use at most 999,999,999 days") from None


def decode_struct(message: Struct) -> dict[str, Any]:
    """The dict of a Struct. Integral numbers become int, as in most JSON parsers."""
    return {key: _decode_value(value) for key, value in message.fields.items()}


def encode_struct(value: Mapping[str, Any]) -> Struct:
    """The Struct of a dict. Values without a JSON type become text, as the comment on Member.fields specifies."""
    message = Struct()
    fill_struct(message, value.items())
    return message


def fill_struct(message: Struct, items: Iterable[tuple[str, Any]]) -> None:
    """Add the items to a Struct, encoded as by `encode_struct`."""
    _fill(message, items, _ROOT_DEPTH)


def encode_value(value: Any, depth: int = _ROOT_DEPTH) -> Value:
    """The Value of a plain value. `depth` is the number of messages that enclose it in the response."""
    message = Value()
    _set(message, value, depth)
    return message


def _decode_value(value: Value) -> Any:
    match value.WhichOneof("kind"):
        case "number_value":
            number = value.number_value
            return int(number) if abs(number) < MAX_EXACT_INTEGER and number.is_integer() else number
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
        if type(item) is str:  # performance: most values are text, and this saves a call
            fields[key].string_value = item
        else:
            _set(fields[key], item, depth)


def _set(message: Value, value: Any, depth: int) -> None:
    # Performance: this runs for every value of every member. Building a Value and copying it takes twice the time.
    # The most common types come first.
    match value:
        case str():
            message.string_value = value
        case bool():
            message.bool_value = value
        case int() if abs(value) < MAX_EXACT_INTEGER:
            message.number_value = value
        case float() if math.isfinite(value):
            message.number_value = value
        case None:
            message.null_value = NullValue.NULL_VALUE
        case datetime():
            message.string_value = format_datetime(value)
        case list() | Mapping() if depth > _MAX_DEPTH:
            message.string_value = json.dumps(value, default=_deep_text, ensure_ascii=False)
        case list():
            values = message.list_value.values
            if not value:
                message.list_value.SetInParent()  # otherwise an empty list would be unset
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


def _deep_text(value: Any) -> str:
    return format_datetime(value) if isinstance(value, datetime) else str(value)


def format_datetime(value: datetime) -> str:
    """The platform's format: UTC with milliseconds."""
    text = value.isoformat("T", "milliseconds")
    if value.tzinfo is None:
        return f"{text}Z"
    if text.endswith("+00:00"):  # as of every date from the database that is decoded with its timezone
        return text.removesuffix("+00:00") + "Z"
    return format_datetime(value.astimezone(UTC))
