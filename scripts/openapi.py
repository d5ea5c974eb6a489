"""Generate the OpenAPI document of the HTTP gateway, or check that it is up to date.

    python -m scripts.openapi           write audience_service/gateway/openapi.json
    python -m scripts.openapi --check   exit with 1 if it differs from the protos

It comes from the same annotations as the gateway's routes, and from the comments of the protos.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from typing import Any

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from audience_service.gateway.errors import http_status_of
from audience_service.gateway.routes import Route, RouteTable
from audience_service.rpc.descriptors import SERVICES
from scripts.protos import ROOT
from scripts.reference import Comments, reason_rows

DOCUMENT = ROOT / "audience_service/gateway/openapi.json"

_DESCRIPTION = """JSON over HTTP for the audience service.

Every request names the org in the header `orgid` and carries a JWT in `authorization: Bearer <token>`. An error is
`{code, message, details}`: `details` has the reason, and the path of each invalid field as in the RPC's request. A name
that a request does not have is an error. A list in a query is repeated or separated by commas."""
_ALWAYS = frozenset({400, 401, 403, 429, 503, 504})
"""The statuses that every path can have. A defect is a 500, which `default` describes."""
_WITH_BODY = frozenset({408, 413, 415})
"""The further ones of a path that takes a body. An upload has no limit."""
_SCALARS: dict[int, dict[str, Any]] = {
    FieldDescriptor.CPPTYPE_STRING: {"type": "string"},
    FieldDescriptor.CPPTYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.CPPTYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.CPPTYPE_UINT32: {"type": "integer", "format": "int64", "minimum": 0},
    FieldDescriptor.CPPTYPE_INT64: {"type": "string", "format": "int64", "pattern": "^-?[0-9]+$"},
    FieldDescriptor.CPPTYPE_UINT64: {"type": "string", "format": "uint64", "pattern": "^[0-9]+$"},
    FieldDescriptor.CPPTYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptor.CPPTYPE_FLOAT: {"type": "number", "format": "float"},
}
_WELL_KNOWN: dict[str, dict[str, Any]] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$", "examples": ["2.5s"]},
    "google.protobuf.FieldMask": {"type": "string", "description": "Names of fields, separated by commas."},
    "google.protobuf.Struct": {"type": "object", "additionalProperties": True},
    "google.protobuf.Value": {},
    "google.protobuf.ListValue": {"type": "array"},
}
_ERROR = {
    "type": "object",
    "description": "An error: google.rpc.Status as JSON.",
    "required": ["code", "message", "details"],
    "properties": {
        "code": {"type": "integer", "description": "The code of google/rpc/code.proto."},
        "message": {"type": "string", "description": "What is wrong, where, and what would be right."},
        "details": {
            "type": "array",
            "description": "ErrorInfo with the reason, BadRequest with the invalid fields, RetryInfo, RequestInfo.",
            "items": {"type": "object", "required": ["@type"], "properties": {"@type": {"type": "string"}}},
        },
    },
}
_ORG = {
    "name": "orgid",
    "in": "header",
    "required": True,
    "description": "The org to act for. The token must allow it.",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$"},
}


class Document:
    """The document. It has a schema for each message and enum that a path needs."""

    def __init__(self) -> None:
        self._comments = Comments()
        self._schemas: dict[str, dict[str, Any]] = {"Error": _ERROR}
        self._statuses = {row.reason: http_status_of(row.status, row.reason) for row in reason_rows(self._comments)}

    def build(self) -> dict[str, Any]:
        """The OpenAPI object."""
        paths: dict[str, dict[str, Any]] = {}
        for route in RouteTable(SERVICES).routes:
            template = re.sub(r"{([\w.]+)}", lambda match: f"{{{_path_name(match[1])}}}", route.template)
            paths.setdefault(template, {})[route.verb.lower()] = self._operation(route)
        return {
            "openapi": "3.1.0",
            "info": {"title": "Audience service", "version": "v1", "description": _DESCRIPTION},
            "security": [{"token": []}],
            "tags": [{"name": s.name, "description": self._comments[s.full_name]} for s in SERVICES],
            "paths": dict(sorted(paths.items())),
            "components": {
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
                "parameters": {"orgid": _ORG},
                "responses": {"Error": {"description": "An error.", "content": _json(_ref("Error"))}},
                "schemas": dict(sorted(self._schemas.items())),
            },
        }

    def _operation(self, route: Route) -> dict[str, Any]:
        comment = self._comments[route.method.full_name]
        operation: dict[str, Any] = {
            "operationId": route.method.name,
            "tags": [route.method.containing_service.name],
            "summary": re.split(r"(?<=\.)\s", comment)[0],
            "description": comment,
            "parameters": [{"$ref": "#/components/parameters/orgid"}, *self._parameters(route)],
        }
        if body := self._body(route):
            operation["requestBody"] = {"required": True, "content": body}
        response = self._schema_of(route.method.output_type)
        content = _json(response)
        if route.method.server_streaming:
            text = f"Server-sent events, each with a {route.method.output_type.name} as JSON. The last event is `end`, "
            text += "with the status. A stream without it is incomplete."
            content = {"text/event-stream": {"schema": {"type": "string", "description": text}}}
        error = {"$ref": "#/components/responses/Error"}
        operation["responses"] = {
            "200": {"description": "Success.", "content": content},
            **{str(status): error for status in sorted(self._errors(route))},
            "default": error,
        }
        return operation

    def _errors(self, route: Route) -> set[int]:
        """The statuses of the errors of a path: those of every path, and those of the reasons in its comment."""
        comment = self._comments[route.method.full_name]
        for other in re.findall(r"those of (\w+)", comment):
            comment += self._comments[f"{route.method.containing_service.full_name}.{other}"]
        named = {self._statuses[word] for word in re.findall(r"[A-Z]+(?:_[A-Z]+)+", comment) if word in self._statuses}
        limits = _WITH_BODY - ({413} if route.method.client_streaming else set()) if route.body else set()
        # A reason such as REQUEST_TOO_LARGE belongs to bodies, wherever a comment explains it.
        return {*_ALWAYS, *(named - _WITH_BODY - {500}), *limits}

    def _parameters(self, route: Route) -> Iterator[dict[str, Any]]:
        for path in route.path_fields:
            field = _field_at(route.method.input_type, path)
            yield {
                "name": _path_name(path),
                "in": "path",
                "required": True,
                "description": self._comments[field.full_name],
                "schema": {"type": "string", "minLength": 1},
            }
        if not route.body:
            yield from self._query(route.method.input_type, "", route.path_fields)

    def _query(self, message: Descriptor, prefix: str, path_fields: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        """A parameter for each field that a query can have; the fields of an object have its name in front."""
        for field in message.fields:
            if prefix + field.name in path_fields:
                continue
            name = ".".join((*map(_json_name, prefix.split(".")[:-1]), field.json_name))
            if field.message_type and field.message_type.full_name not in _WELL_KNOWN:
                if not field.is_repeated:
                    yield from self._query(field.message_type, f"{prefix}{field.name}.", path_fields)
                continue
            if field.message_type and self._schema_of(field.message_type).get("type") != "string":
                continue  # an object has no form in a query
            yield {
                "name": name,
                "in": "query",
                "required": not prefix and field_behavior_pb2.REQUIRED in _behavior(field),
                "description": self._comments[field.full_name],
                "schema": self._field(field),
            }

    def _body(self, route: Route) -> dict[str, Any]:
        message = route.method.input_type
        if not route.body:
            return {}
        if route.method.client_streaming:
            header = _message_at(message, "header")
            schema = self._object(header, omit=("audience_id",))
            schema["properties"]["file"] = {"type": "string", "format": "binary", "description": "The last part."}
            schema["required"].append("file")
            return {"multipart/form-data": {"schema": schema}}
        if route.body == "*":
            return _json(self._object(message, omit=route.path_fields))
        schema = self._object(_message_at(message, route.body))
        for other in message.fields:
            if other.name != route.body:
                schema["properties"].setdefault(other.json_name, self._property(other))
        return _json(schema)

    def _schema_of(self, message: Descriptor) -> dict[str, Any]:
        """A reference to the schema of a message, or the schema of a well-known one."""
        if message.full_name in _WELL_KNOWN:
            return _WELL_KNOWN[message.full_name]
        if message.name not in self._schemas:
            self._schemas[message.name] = {}  # messages can contain themselves
            self._schemas[message.name] = self._object(message)
        return _ref(message.name)

    def _object(self, message: Descriptor, omit: tuple[str, ...] = ()) -> dict[str, Any]:
        fields = [field for field in message.fields if field.name not in omit]
        return {
            "type": "object",
            "description": self._comments[message.full_name],
            "properties": {field.json_name: self._property(field) for field in fields},
            "required": [field.json_name for field in fields if field_behavior_pb2.REQUIRED in _behavior(field)],
        }

    def _property(self, field: FieldDescriptor) -> dict[str, Any]:
        schema = {**self._field(field), "description": self._comments[field.full_name]}
        if field_behavior_pb2.OUTPUT_ONLY in _behavior(field):
            schema["readOnly"] = True
        if field_behavior_pb2.INPUT_ONLY in _behavior(field):
            schema["writeOnly"] = True
        return schema

    def _field(self, field: FieldDescriptor) -> dict[str, Any]:
        if field.message_type and field.message_type.GetOptions().map_entry:
            return {
                "type": "object",
                "additionalProperties": self._field(field.message_type.fields_by_name["value"]),
            }
        schema = self._single(field)
        return {"type": "array", "items": schema} if field.is_repeated else schema

    def _single(self, field: FieldDescriptor) -> dict[str, Any]:
        if field.message_type:
            return self._schema_of(field.message_type)
        if field.enum_type:
            return self._enum(field.enum_type)
        if field.type == FieldDescriptor.TYPE_BYTES:
            return {"type": "string", "format": "byte"}
        return _SCALARS[field.cpp_type]

    def _enum(self, enum: EnumDescriptor) -> dict[str, Any]:
        values = [value.name for value in enum.values]
        text = "\n".join([self._comments[enum.full_name], *(f"- {self._value_comment(enum, v)}" for v in values[1:])])
        self._schemas[enum.name] = {"type": "string", "enum": values, "description": text}
        return _ref(enum.name)

    def _value_comment(self, enum: EnumDescriptor, value: str) -> str:
        return self._comments[f"{enum.full_name}.{value}"]


def _behavior(field: FieldDescriptor) -> list[int]:
    return list(field.GetOptions().Extensions[field_behavior_pb2.field_behavior])


def _field_at(message: Descriptor, path: str) -> FieldDescriptor:
    *parents, name = path.split(".")
    for parent in parents:
        message = _message_at(message, parent)
    return message.fields_by_name[name]


def _message_at(message: Descriptor, name: str) -> Descriptor:
    found: Any = message.fields_by_name[name].message_type
    return found  # type: ignore[no-any-return]


def _path_name(path: str) -> str:
    """The name of a path's parameter: `id` for `segment.id`."""
    return _json_name(path.rpartition(".")[2])


def _json_name(name: str) -> str:
    return re.sub(r"_(.)", lambda match: match[1].upper(), name)


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def generate() -> str:
    """The text of the document."""
    return json.dumps(Document().build(), indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Parse the command line and write or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only compare")
    if not parser.parse_args().check:
        DOCUMENT.write_text(generate())
    elif DOCUMENT.read_text() != generate():
        sys.exit(f"{DOCUMENT.relative_to(ROOT)} is out of date; run `make docs`")


if __name__ == "__main__":
    main()
