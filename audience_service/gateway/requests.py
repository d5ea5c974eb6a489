"""Requests of RPCs, from a path, a query and a JSON body.

    PUT /crm/audiences/segments/segment-1?validateOnly=true      {"name": "VIP", "filter": {...}}
    UpdateSegmentRequest(segment={id: "segment-1", name: "VIP", filter: ...}, validate_only=True)

1. A name that the RPC does not have is an error, wherever it is.
2. The path names the resource: another id in the query or the body is an error.
3. Each field is set once, in the query or in the body, and in one of its spellings.
"""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any
from urllib.parse import parse_qsl

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message

from audience_service.gateway.errors import MAX_VIOLATIONS, GatewayError
from audience_service.gateway.json_text import encode_json, parse_json
from audience_service.gateway.routes import Route

_MAX_QUERY_FIELDS = 1_000
_JSON_TYPES = "google.protobuf."
"""The package of messages with a JSON form of their own: Timestamp, Struct and others."""
_PARSE_ERROR_FIELD = re.compile(r"Failed to parse (\w+) field: ")
_PARSE_ERROR_PATH = re.compile(r' at "?\w+(?:\.([\w.\[\]]+))?"?$')
_BOOLEANS = {"true": True, "false": False}

JsonObject = dict[str, Any]


def decode(route: Route, path: Mapping[str, str], query: bytes, body: bytes) -> Message:
    """The request of a route's RPC. Raises GatewayError for one that the RPC cannot have."""
    fields = _decode_body(route, body)
    for name, value in _decode_query(route, query).items():
        if name in fields:
            raise GatewayError.invalid_field(name, "is set in the query and in the body; set it once")
        fields[name] = value
    message = build_message(route.request_class, fields)
    for field_path, value in path.items():
        _set_path_field(message, field_path, value)
    return message


def build_message(message_class: type[Message], fields: JsonObject) -> Message:
    """The message of a JSON object. Raises GatewayError with everything that it cannot have."""
    message = message_class()
    descriptor: Any = message.DESCRIPTOR  # of either implementation
    if problems := list(islice(_problems(fields, descriptor, ""), MAX_VIOLATIONS + 1)):
        raise GatewayError.invalid(problems)
    try:
        ParseDict(fields, message)
    except ParseError as error:
        raise GatewayError.invalid([_split_parse_error(str(error))]) from None
    except (ValueError, TypeError, OverflowError) as error:  # such as a number that is too large
        raise GatewayError.malformed(f"the request has a value that no field can have: {error}") from None
    return message


def refuse_query(query: bytes) -> None:
    """Raise GatewayError if a request of an upload, whose fields are parts of its form, has a query."""
    if names := dict.fromkeys(name for name, _ in _query_pairs(query)):
        raise GatewayError.invalid([(name, "is in the query; send it as a part of the form") for name in names])


def _decode_body(route: Route, body: bytes) -> JsonObject:
    """The fields of the request that the body sets, by their JSON names."""
    if not body.strip():
        return {}
    if not route.body:
        raise GatewayError.malformed(f"{route.verb} {route.template} takes no body; send its fields in the query")
    try:
        value = parse_json(body)
    except ValueError as error:
        raise GatewayError.malformed(f"the body {error}") from None
    if not isinstance(value, dict):
        raise GatewayError.malformed("the body is not a JSON object; send one in braces")
    if route.body == "*":
        return _with_json_names(value, route.method.input_type)
    return _unfold(route, value)


def _unfold(route: Route, value: JsonObject) -> JsonObject:
    """The fields of the request from a body that is one of them.

    The body may also have the request's other fields, such as `source` of CreateSegment, if the names are not those
    of its own fields.
    """
    request = route.method.input_type
    field: Any = request.fields_by_name[route.body]
    own, others = set(_names_of(field.message_type)), _names_of(request)
    if wrapper := next((name for name in (field.name, field.json_name) if name in value and name not in own), None):
        raise GatewayError.invalid_field(
            wrapper, f"is the body itself; send its fields without the wrapper `{wrapper}` around them"
        )
    beside = {name: item for name, item in value.items() if name in others and name not in own}
    # An unknown name is in the field as well, so that the error names it at its place.
    content = {name: item for name, item in value.items() if name not in beside}
    return {**_with_json_names(beside, request), field.json_name: content}


def _with_json_names(fields: JsonObject, message: Descriptor) -> JsonObject:
    """The fields by their JSON names; a name that the message does not have stays."""
    names = _names_of(message)
    named: JsonObject = {}
    for name, value in fields.items():
        json_name = names[name].json_name if name in names else name
        if json_name in named:
            raise GatewayError.invalid_field(json_name, "is set twice, in both of its spellings; set it once")
        named[json_name] = value
    return named


def _decode_query(route: Route, query: bytes) -> JsonObject:
    """The fields of the request that the query sets, by their JSON names."""
    values: dict[tuple[FieldDescriptor, ...], list[str]] = {}
    problems: dict[str, str] = {}
    for name, value in _query_pairs(query):
        if name in problems:
            continue
        found = _find_field(route.method.input_type, name)
        if isinstance(found, str):
            problems[name] = found
        elif route.body == "*":
            problems[name] = "is a field of the body; send it there"
        else:
            values.setdefault(found, []).append(value)
        if len(problems) > MAX_VIOLATIONS:
            break
    if problems:
        raise GatewayError.invalid(list(problems.items()))
    fields: JsonObject = {}
    for found, texts in values.items():
        node = fields
        for field in found[:-1]:
            node = node.setdefault(field.json_name, {})
        node[found[-1].json_name] = _query_value(found, texts)
    return fields


def _query_pairs(query: bytes) -> list[tuple[str, str]]:
    """The names and values of a query. Raises GatewayError for one that cannot be read."""
    try:
        return parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_QUERY_FIELDS
        )
    except ValueError as error:
        raise GatewayError.malformed(f"the query cannot be read: {error}") from None


def _find_field(message: Descriptor, dotted: str) -> tuple[FieldDescriptor, ...] | str:
    """The fields of a dotted path, or what is wrong with it."""
    found: list[FieldDescriptor] = []
    node: Descriptor | None = message
    for name in dotted.split("."):
        names = _names_of(node) if node else {}
        if name not in names:
            return _unknown(name, names.values())
        field = names[name]
        found.append(field)
        node = None if field.is_repeated else field.message_type
    if field.message_type and not (_has_text_form(field.message_type) and not field.is_repeated):
        return "is an object, which a query cannot have; name one of its fields after a dot"
    return tuple(found)


def _query_value(found: Sequence[FieldDescriptor], texts: list[str]) -> Any:
    """The JSON value of a field from its values in the query. A list may have commas: `country,tags`."""
    field = found[-1]
    if field.is_repeated:
        return [_scalar(found, part) for text in texts for part in text.split(",") if part]
    if len(texts) > 1:
        raise GatewayError.invalid_field(_dotted(found), "is in the query more than once; set it once")
    return _scalar(found, texts[0])


def _scalar(found: Sequence[FieldDescriptor], text: str) -> Any:
    if found[-1].cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        if text not in _BOOLEANS:
            raise GatewayError.invalid_field(_dotted(found), f"{text[:40]!r} is neither true nor false")
        return _BOOLEANS[text]
    return text


def _set_path_field(message: Message, field_path: str, value: str) -> None:
    """Set a field to its value in the path. Raises GatewayError if the query or the body has another one."""
    *parents, name = field_path.split(".")
    node: Any = message
    for parent in parents:
        node = getattr(node, parent)
    if getattr(node, name) not in ("", value):
        raise GatewayError.invalid_field(
            field_path, "differs from the one in the path, which names the resource; leave it out"
        )
    setattr(node, name, value)


def _problems(value: Any, message: Descriptor, path: str) -> Iterator[tuple[str, str]]:
    """The path and the problem of every name that a message does not have, and of every value of another JSON type.

    Left out are numbers and messages with a JSON form of their own, which json_format checks.
    """
    if message.full_name.startswith(_JSON_TYPES):
        return
    if not isinstance(value, dict):
        yield path, "is not an object; send one in braces"
        return
    names = _names_of(message)
    for name, item in value.items():
        place = f"{path}.{name[:100]}".lstrip(".")
        if name not in names:
            yield place, _unknown(name, names.values())
        elif (other := names[name].name) != name and other in value:
            yield place, f"is set twice, as {name} and as {other}; set it once"
        elif item is not None:  # null is the default
            yield from _value_problems(item, names[name], place)
    for choice in message.oneofs:
        given = dict.fromkeys(
            names[n].json_name
            for n, item in value.items()
            if n in names and names[n].containing_oneof == choice and item is not None
        )
        if len(given) > 1:
            first, second, *_ = given
            yield f"{path}.{second}".lstrip("."), f"is set together with {first}; set one of them"


def _value_problems(value: Any, field: FieldDescriptor, path: str) -> Iterator[tuple[str, str]]:
    if field.message_type and field.message_type.GetOptions().map_entry:
        if not isinstance(value, dict):
            yield path, "is not an object; send one in braces"
            return
        content = field.message_type.fields_by_name["value"]
        for key, item in value.items():
            yield from _single_problems(item, content, f"{path}.{key[:100]}")
    elif field.is_repeated:
        if not isinstance(value, list):
            yield path, "is not a list; send one in brackets"
            return
        for index, item in enumerate(value):
            yield from _single_problems(item, field, f"{path}[{index}]")
    else:
        yield from _single_problems(value, field, path)


def _single_problems(value: Any, field: FieldDescriptor, path: str) -> Iterator[tuple[str, str]]:
    if field.message_type:
        yield from _problems(value, field.message_type, path)
    elif field.cpp_type == FieldDescriptor.CPPTYPE_STRING and not isinstance(value, str):
        yield path, f"is not a string; send it in quotes: {encode_json(str(value)[:40]).decode()}"
    elif field.cpp_type == FieldDescriptor.CPPTYPE_BOOL and not isinstance(value, bool):
        yield path, "is neither true nor false"


def _unknown(name: str, fields: Any) -> str:
    names = [field.json_name for field in fields]
    similar = difflib.get_close_matches(name[:100], names, n=1)
    if similar:
        return f"is not a field; did you mean {similar[0]}?"
    return "is not a field" + (f"; the fields are {', '.join(sorted(names))}" if names else "")


def _names_of(message: Descriptor) -> dict[str, FieldDescriptor]:
    """The fields of a message by both of their spellings: `pageSize` and `page_size`."""
    return {name: field for field in message.fields for name in (field.json_name, field.name)}


def _has_text_form(message: Descriptor) -> bool:
    """Whether the JSON form of a message is a string."""
    return message.full_name in {_JSON_TYPES + name for name in ("Timestamp", "Duration", "FieldMask")}


def _dotted(found: Sequence[FieldDescriptor]) -> str:
    return ".".join(field.json_name for field in found)


def _split_parse_error(text: str) -> tuple[str, str]:
    """The path and the problem of an error of json_format.

    `Failed to parse version field: <problem> at Segment.version.` becomes `version` and the problem.
    """
    names = []
    while match := _PARSE_ERROR_FIELD.match(text):
        names.append(match[1])
        text = text[match.end() :]
    text = text.rstrip(".")
    if match := _PARSE_ERROR_PATH.search(text):
        return match[1] or ".".join(names) or "body", text[: match.start()][:250]
    return ".".join(names) or "body", text[:250]
