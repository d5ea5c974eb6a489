"""Members as Python values, and as the columns of tables."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.struct_pb2 import Struct, Value

from audience_client.pb.audience.v1 import membership_service_pb2 as pb


@dataclass(frozen=True, slots=True)
class Member:
    """A record that is a member of an audience: its id, and the requested values by path."""

    id: str
    fields: Mapping[str, Any]


def read_member(message: pb.Member) -> Member:
    """The member in a message."""
    return Member(message.id, to_dict(message.fields))


def to_dict(struct: Struct) -> dict[str, Any]:
    """The values of a Struct. Integral numbers are ints."""
    return {name: _to_python(value) for name, value in struct.fields.items()}


def row(member: Member, fields: Sequence[str]) -> list[str]:
    """A member's row of a CSV file. Lists and objects are JSON; a missing value is empty."""
    return [member.id, *(_to_text(member.fields.get(field)) for field in fields)]


def columns(members: Iterable[Member], fields: Sequence[str]) -> dict[str, list[Any]]:
    """The columns of a table: `id`, then the fields. A column with values of several types is text."""
    read = list(members)
    found: dict[str, list[Any]] = {"id": [member.id for member in read]}
    for field in fields:
        values = [member.fields.get(field) for member in read]
        found[field] = values if _is_uniform(values) else [None if v is None else _to_text(v) for v in values]
    return found


def _is_uniform(values: Iterable[Any]) -> bool:
    """Whether a column can hold the values without a change: one scalar type, or lists of texts."""
    kinds = {float if type(value) is int else type(value) for value in values if value is not None}
    if kinds == {list}:
        return all(isinstance(item, str) for value in values if value is not None for item in value)
    return kinds <= {float} or kinds <= {str} or kinds <= {bool}


def _to_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _to_python(value: Value) -> Any:
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() else number
        case "bool_value":
            return value.bool_value
        case "list_value":
            return [_to_python(item) for item in value.list_value.values]
        case "struct_value":
            return to_dict(value.struct_value)
        case _:
            return None
