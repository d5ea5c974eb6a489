"""Members in the wire format: the bytes mean what messages filled value by value would mean."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import bson
import pytest
from bson import Decimal128, Int64, ObjectId
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from hypothesis import given
from hypothesis import strategies as st

from audience_service.domain.core.documents import Documents
from audience_service.domain.schema.projection import Projection
from audience_service.pb.audience.v1.membership_service_pb2 import StreamMembersResponse
from audience_service.rpc.converters.member_bytes import encode_members
from audience_service.rpc.converters.structs import fill_struct
from tests.support.odd_values import ODD_VALUES

FIELDS = Projection.parse(["email", "data.email", "address.city", "tags", "naïve", 'data["utm.source"]', "createdate"])


AS_STORED: CodecOptions[dict[str, Any]] = CodecOptions(
    tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)


def filled(records: list[dict[str, Any]], fields: Projection) -> StreamMembersResponse:
    message = StreamMembersResponse()
    for record in records:
        member = message.members.add(id=str(record.get("pk", "")))
        fill_struct(member.fields, fields.values(record))
    return message


def check(records: list[dict[str, Any]]) -> None:
    assert StreamMembersResponse.FromString(encode_members(records, FIELDS)) == filled(records, FIELDS)
    documents = Documents(b"".join(map(bson.encode, records)), len(records), "")
    stored: list[dict[str, Any]] = bson.decode_all(documents.content, AS_STORED)
    assert StreamMembersResponse.FromString(encode_members(documents, FIELDS)) == filled(stored, FIELDS)


def deep(value: Any) -> Any:
    """A value so deep that a Struct has its surroundings as JSON text."""
    for _ in range(40):
        value = {"a": value}
    return value


VALUES: dict[str, Any] = {
    "integers": [0, -1, 2**53 - 1, 2**53, -(2**53), Int64(7), Int64(2**60)],
    "floats": [0.0, -0.5, 1e300, float("inf")],
    "texts": ["", "é" * 127, "x" * 128, "x" * 255, "x" * 256, "x" * 70_000],
    "dates": [datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=2))),
              datetime(2026, 1, 2), DatetimeMS(10**15)],
    "lists": [[], ["a"], ["x" * 300, ""], ["a", 1, None], [["a"]]],
    "others": [True, False, None, b"\x01", Decimal128("1.10"), ObjectId(), {"a": {"b": []}}, {}],
    "deep dates": [deep(datetime(2026, 1, 2, tzinfo=UTC))],
    "odd": list(ODD_VALUES.values()),
}  # fmt: skip


@pytest.mark.parametrize("kind", VALUES)
def test_values_are_encoded_as_in_messages(kind: str) -> None:
    """At a path of their own, and inside a list that the path goes through."""
    for value in VALUES[kind]:
        check([{"pk": "contact-a", "createdate": value, "data": {"email": value, "naïve": value, "utm.source": value}}])
        check([{"pk": "contact-a", "data": {"address": [{"city": value}, {"city": value}, value], "tags": value}}])


def test_records_without_values_have_an_id_only() -> None:
    """Also if `data` is no object, or the record has no id."""
    check([{"pk": "a"}, {"pk": "b", "data": None}, {"pk": "c", "data": {}}, {"data": {"email": "x"}}, {"pk": 5}, {}])
    assert encode_members([], FIELDS) == b""
    [member] = StreamMembersResponse.FromString(encode_members([{"pk": "a"}], Projection.parse([]))).members
    assert (member.id, member.HasField("fields")) == ("a", False)


def test_equal_values_of_other_types_stay_apart() -> None:
    """1, 1.0 and True are equal, as are 0.0 and -0.0, in Python and in lists."""
    for values in ([1, True, 1.0, Int64(1), [1], [True]], [0, False, 0.0, -0.0, [0.0], [False], ["0"], "0"]):
        check([{"pk": str(n), "data": {"email": value, "tags": value}} for n, value in enumerate([*values, *values])])


SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=9)
)
DATA = st.dictionaries(
    st.sampled_from(["email", "address", "tags", "naïve", "utm.source"]),
    st.recursive(
        SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["city", "x"]), inner)
    ),
)


@given(st.lists(st.fixed_dictionaries({"pk": st.text(max_size=300), "data": DATA}), max_size=4))
def test_any_records_are_encoded_as_in_messages(records: list[dict[str, Any]]) -> None:
    """Whatever their fields contain."""
    check(records)
