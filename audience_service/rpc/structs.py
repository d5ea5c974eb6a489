"""Between protobuf's JSON-like types and plain values."""

import base64
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

_EXACT_IN_DOUBLE = 2**53


def encode_moment(moment: datetime | None) -> Timestamp | None:
    """The moment, or nothing."""
    if moment is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


def read_struct(message: Struct) -> dict[str, Any]:
    """A Struct as an object; numbers that are whole become integers, as JSON readers elsewhere make them."""
    return {key: _read_value(value) for key, value in message.fields.items()}


def write_struct(value: Mapping[str, Any]) -> Struct:
    """An object as a Struct; values that JSON lacks become text, as Member.fields states."""
    message = Struct()
    message.update({key: _plain(item) for key, item in value.items()})
    return message


def _read_value(value: Value) -> Any:
    match value.WhichOneof("kind"):
        case "number_value":
            number = value.number_value
            return int(number) if abs(number) < _EXACT_IN_DOUBLE and number.is_integer() else number
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return read_struct(value.struct_value)
        case "list_value":
            return [_read_value(item) for item in value.list_value.values]
        case _:
            return None


def _plain(value: Any) -> Any:
    """The value in what JSON has."""
    match value:
        case None | bool() | str():
            return value
        case int():
            return int(value) if abs(value) < _EXACT_IN_DOUBLE else str(int(value))
        case float():
            return value if math.isfinite(value) else str(value)
        case datetime():
            moment = value if value.tzinfo else value.replace(tzinfo=UTC)
            return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case bytes():
            return base64.b64encode(value).decode()
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case Sequence():
            return [_plain(item) for item in value]
    return str(value)
