"""What holds for every RPC that the protos declare, on every store."""

import math
from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from audience_service.rpc.method import Method
from tests.conftest import Service
from tests.support.client import Client
from tests.support.rpcs import DEFECTS, METHODS, about, named, refusal
from tests.support.uploads import Uploader, emails

ABOUT_SOMETHING = [method for method in METHODS if Method.of(method).required_ids]

_NOISE: dict[int, Sequence[Any]] = {
    FieldDescriptor.CPPTYPE_STRING: ("smart", "\0", "a/b", "x" * 300),
    FieldDescriptor.CPPTYPE_INT32: (-1, 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-1, 2**63 - 1),
    FieldDescriptor.CPPTYPE_DOUBLE: (-1.0, math.nan, math.inf),
    FieldDescriptor.CPPTYPE_BOOL: (True,),
    FieldDescriptor.CPPTYPE_ENUM: (99,),
}


def noise(kind: Any, depth: int = 3) -> Iterator[Message]:
    """Messages with one field each that holds something odd, of a kind given by its descriptor."""
    for field in kind.fields:
        if field.message_type and field.message_type.GetOptions().map_entry:
            continue
        inner = noise(field.message_type, depth - 1) if field.message_type and depth else ()
        for value in _NOISE.get(field.cpp_type, ()) if not field.message_type else inner:
            message = GetMessageClass(kind)()
            field_value = getattr(message, field.name)
            if field.is_repeated:
                field_value.append(value)
            elif field.message_type:
                field_value.CopyFrom(value)
            else:
                setattr(message, field.name, value)
            yield message


@pytest.mark.parametrize("method", METHODS, ids=named)
def test_a_call_without_a_token_is_not_answered(service: Service, method: MethodDescriptor) -> None:
    error = refusal(service, method, GetMessageClass(method.input_type)(), (("orgid", "acme"),))
    assert error
    assert (error.code, error.info.reason) == (grpc.StatusCode.UNAUTHENTICATED, "MISSING_TOKEN")


@pytest.mark.parametrize("method", ABOUT_SOMETHING, ids=named)
def test_a_missing_required_id_is_reported_by_its_field_path(
    service: Service, client: Client, method: MethodDescriptor
) -> None:
    paths = Method.of(method).required_ids
    for path in paths:
        request = about(method, ["segment-x"])
        setattr(reduce(getattr, path[:-1], request), path[-1], "")
        error = refusal(service, method, request, client.metadata)
        assert error
        assert (error.code, error.info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
        assert error.fields == [".".join(path)]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS, ids=named)
def test_no_field_value_causes_an_internal_error(
    service: Service, client: Client, org: str, method: MethodDescriptor
) -> None:
    [contact, *_] = service.insert(org, [{"data": {"email": "ann@example.com"}}])
    all_contacts = {"datatype": "contact", "where": {}}
    # The list has a member, so that a query for its members executes every stage.
    uploaded = client.custom(name="uploaded").id
    Uploader(client).upload(uploaded, emails("ann"))
    for made in (
        client.create(name="dynamic", filter=all_contacts).id,
        client.create(name="static", type="static", contactIds=[contact]).id,
        uploaded,
        contact,
    ):
        for odd in noise(method.input_type):
            request = about(method, [made])
            request.MergeFrom(odd)
            error = refusal(service, method, request, client.metadata)
            assert error is None or error.code not in DEFECTS, (request, error.message)
