"""Converters of filters and of their warnings."""

from collections.abc import Iterable

from audience_service.domain.core.error_path import prefix_error_path
from audience_service.domain.filters import Filter, FilterLimits, FilterWarning, fits_struct, parse_text, print_text
from audience_service.pb.audience.v1 import resources_pb2 as pb
from audience_service.rpc.converters.structs import decode_struct, encode_struct


def decode_filter(message: pb.Filter, field_path: str) -> Filter:
    """The filter of a message. Its `where` is None if the message has no conditions.

    `field_path` is the path of the message in the request. Raises InvalidFilter below it if `where_json` is not JSON.
    """
    match message.WhichOneof("conditions"):
        case "where":
            return Filter(message.datatype, decode_struct(message.where), exact=False)
        case "where_json":
            with prefix_error_path(field_path):
                where = parse_text(message.where_json, "where_json", FilterLimits().size_bytes)
            return Filter(message.datatype, where)
        case _:
            return Filter(message.datatype, None)


def encode_filter(value: Filter) -> pb.Filter:
    """The message of a filter: with `where` if a Struct represents it exactly, otherwise with `where_json`."""
    if value.where is None:
        return pb.Filter(datatype=value.datatype)
    if fits_struct(value.where):
        return pb.Filter(datatype=value.datatype, where=encode_struct(value.where))
    return pb.Filter(datatype=value.datatype, where_json=print_text(value.where))


def encode_warnings(values: Iterable[FilterWarning]) -> list[pb.FilterWarning]:
    """The messages of a filter's warnings."""
    return [
        pb.FilterWarning(field_path=value.field_path, reason=value.reason, description=value.description)
        for value in values
    ]
