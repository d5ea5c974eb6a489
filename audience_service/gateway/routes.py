"""The HTTP paths of the RPCs, from their `google.api.http` annotations.

GET /crm/audiences/segments/{id}        one path segment is the field `id` of the request
PUT /crm/audiences/segments/{segment.id}, body "segment"    the body is the field `segment`
POST /crm/audiences/estimate-reach, body "*"                the body is the request
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from google.api import annotations_pb2
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from audience_service.gateway.errors import GatewayError

_VARIABLE = re.compile(r"{([\w.]+)}")


@dataclass(frozen=True, slots=True)
class Route:
    """An RPC and its HTTP path."""

    method: MethodDescriptor
    verb: str
    """`GET`, `POST`, `PUT`, `PATCH` or `DELETE`."""
    template: str
    """The path, with the fields of the request in braces: `/crm/audiences/segments/{id}`."""
    body: str
    """The field that the body is; `*` if the body is the request; empty if there is no body."""

    @property
    def rpc_path(self) -> str:
        """The path of the RPC in gRPC."""
        return f"/{self.method.containing_service.full_name}/{self.method.name}"

    @property
    def request_class(self) -> type[Message]:
        """The class of the RPC's request."""
        return GetMessageClass(self.method.input_type)

    @property
    def response_class(self) -> type[Message]:
        """The class of the RPC's response, or of one message of it."""
        return GetMessageClass(self.method.output_type)

    @property
    def path_fields(self) -> tuple[str, ...]:
        """The fields of the request that the path contains: `segment.id`."""
        return tuple(_VARIABLE.findall(self.template))

    @property
    def verbs(self) -> tuple[str, ...]:
        """The HTTP methods that the route serves: HEAD as well as GET, unless the response is a stream."""
        return ("GET", "HEAD") if self.verb == "GET" and not self.method.server_streaming else (self.verb,)


class RouteTable:
    """The routes of services. `find` returns the one of a request."""

    def __init__(self, services: Iterable[ServiceDescriptor]) -> None:
        """Read the annotations. Raises ValueError for one of a kind that the gateway does not serve."""
        self.routes = tuple(_routes_of(services))
        self._paths: dict[tuple[bytes | None, ...], list[Route]] = {}
        for route in self.routes:
            self._paths.setdefault(_shape_of(route), []).append(route)

    def find(self, verb: str, raw_path: bytes) -> tuple[Route, Mapping[str, str]]:
        """The route of a request, and the values of its path's fields.

        Raises GatewayError: 404 for an unknown path, 405 for a path that has other methods.
        """
        routes = self._routes_at(raw_path)
        for route in routes:
            if verb in route.verbs:
                return route, _path_values(route, raw_path.split(b"/"))
        raise GatewayError.method_not_allowed(verb, raw_path, _verbs_of(routes))

    def allowed(self, raw_path: bytes) -> tuple[str, ...]:
        """The methods of a path. Raises GatewayError: 404 for an unknown path."""
        return _verbs_of(self._routes_at(raw_path))

    def _routes_at(self, raw_path: bytes) -> list[Route]:
        segments = raw_path.split(b"/")[1:]
        for shape, routes in self._paths.items():
            if len(shape) == len(segments) and all(
                part == segment or (part is None and segment) for part, segment in zip(shape, segments, strict=True)
            ):
                return routes
        raise GatewayError.no_such_path(raw_path)


def _routes_of(services: Iterable[ServiceDescriptor]) -> Iterator[Route]:
    for service in services:
        for method in service.methods:
            rule = method.GetOptions().Extensions[annotations_pb2.http]
            pattern = rule.WhichOneof("pattern")
            if pattern is None:
                continue
            if pattern == "custom" or rule.additional_bindings or rule.response_body:
                raise ValueError(f"{method.full_name}: the gateway serves one plain path of an RPC")
            template = getattr(rule, pattern)
            if any(re.search(r"[{}*:]", part) and not _VARIABLE.fullmatch(part) for part in template.split("/")):
                raise ValueError(f"{method.full_name}: {template}: a field is one whole segment of the path")
            yield Route(method, pattern.upper(), template, rule.body)


def _shape_of(route: Route) -> tuple[bytes | None, ...]:
    """The segments of the path, None for a field."""
    return tuple(None if _VARIABLE.fullmatch(part) else part.encode() for part in route.template.split("/")[1:])


def _verbs_of(routes: Iterable[Route]) -> tuple[str, ...]:
    return (*(verb for route in routes for verb in route.verbs), "OPTIONS")


def _path_values(route: Route, segments: list[bytes]) -> dict[str, str]:
    values = {}
    for part, segment in zip(route.template.split("/"), segments, strict=True):
        if variable := _VARIABLE.fullmatch(part):
            try:
                values[variable[1]] = unquote_to_bytes(segment).decode()
            except UnicodeDecodeError:
                raise GatewayError.invalid_field(variable[1], "is not UTF-8 in the path") from None
    return values
