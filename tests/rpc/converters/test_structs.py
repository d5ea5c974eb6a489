"""Between Structs and values: what JSON cannot hold becomes text, and filters come back as they were."""

import json
from datetime import datetime
from typing import Any

import pytest
from google.protobuf.json_format import MessageToJson, Parse
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.filters import Filter, fits_struct
from audience_service.pb.audience.v1.resources_pb2 import Segment
from audience_service.pb.audience.v1.segment_service_pb2 import ListSegmentsResponse
from audience_service.rpc.converters.filters import decode_filter, encode_filter
from audience_service.rpc.converters.structs import decode_struct, decode_timestamp, encode_struct, encode_timestamp

SCALARS = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=5)
ZONES: Any = st.one_of(st.none(), st.timezones())
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner))


@given(st.dictionaries(st.text(max_size=3), VALUES, max_size=4))
def test_plain_values_survive_a_struct(value: dict[str, Any]) -> None:
    sent = Struct.FromString(encode_struct(value).SerializeToString())
    assert decode_struct(sent) == value


@given(st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=ZONES))
def test_a_time_is_encoded_as_protobuf_does(value: datetime) -> None:
    expected = Timestamp()
    expected.FromDatetime(value)
    assert encode_timestamp(value) == expected


NESTS: list[Any] = [
    lambda inner: {"$and": [inner]},
    lambda inner: {"$and": [inner, {"b": {"$in": [[1]]}}]},
    lambda inner: {"a": {"$elemMatch": inner}},
    lambda inner: {"a": {"$not": {"$elemMatch": inner}}},
]


@pytest.mark.parametrize("nest", NESTS)
@pytest.mark.parametrize("times", range(1, 33))
def test_any_filter_is_returned_in_a_form_that_clients_can_read(nest: Any, times: int) -> None:
    where: dict[str, Any] = {"a": 1}
    for _ in range(times):
        where = nest(where)
    answer = ListSegmentsResponse(segments=[Segment(filter=encode_filter(Filter("contact", where)))])
    received = ListSegmentsResponse.FromString(answer.SerializeToString())
    again = Parse(MessageToJson(received), ListSegmentsResponse())
    assert decode_filter(again.segments[0].filter, "filter").where == where
    if times <= 10:
        assert again.segments[0].filter.HasField("where")


@pytest.mark.parametrize(
    ("where", "fits"),
    [
        ({"a": 1, "b": {"$gt": 1, "$lt": 5}}, True),
        ({"a": {"b": 1}}, True),
        ({"a": {"b": 1, "c": 2}}, False),
        ({"a": {"$eq": {"b": 1, "c": 2}}}, False),
        ({"a": {"$in": [{"b": 1, "c": 2}]}}, False),
        ({"a": {"$elemMatch": {"b": 1, "c": 2}}}, True),
        ({"a": {"$elemMatch": {"b": {"c": 1, "d": 2}}}}, False),
        ({"$related": {"datatype": "order", "then": {"where": {"a": 1, "b": {"$gt": 1}}, "count": {"$gte": 2}}}}, True),
        ({"$related": {"datatype": "order", "then": {"where": {"a": {"b": 1, "c": 2}}}}}, False),
        ({"$related": {"datatype": "order", "last": {"by": "at", "where": {"a": {"b": 1, "c": 2}}}}}, False),
        ({"a": {"$not": {"$elemMatch": {"$gte": 1, "$lt": 2}}}}, True),
        ({"$or": [{"a": 1}, {"b": 2**53}]}, False),
        ({"a": float("nan")}, False),
        ({"a": __import__("datetime").datetime(2026, 1, 1)}, False),
    ],
)
def test_a_filter_is_returned_as_an_object_only_if_that_is_exact(where: dict[str, Any], fits: bool) -> None:
    assert fits_struct(where) is fits
    if fits:
        assert json.loads(MessageToJson(encode_struct(where))) == where


@pytest.mark.parametrize(("seconds", "nanos"), [(10**15, 0), (-(10**15), 0), (0, 10**9), (0, -1)])
def test_a_timestamp_outside_the_calendar_is_refused_at_its_field_path(seconds: int, nanos: int) -> None:
    with pytest.raises(InvalidArgument) as caught:
        decode_timestamp(Timestamp(seconds=seconds, nanos=nanos), "as_of")
    assert caught.value.violations[0].field == "as_of"
