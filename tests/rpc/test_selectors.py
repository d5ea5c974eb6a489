"""One function reads the member selector of every request that has one."""

from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.json_format import ParseDict
from google.protobuf.message_factory import GetMessageClass

from audience_service.domain.audiences.selection import AudienceSelector
from audience_service.domain.filters import Filter
from audience_service.rpc.converters.audiences import decode_selection
from audience_service.rpc.descriptors import SERVICES

WRITTEN: dict[str, tuple[Any, Any]] = {
    "audience_id": ("segment-1", "segment-1"),
    "filter": ({"datatype": "contact", "where": {}}, Filter("contact", {}, exact=False)),
    "snapshot_id": ("snapshot-1", "snapshot-1"),
    "audience_ids": (["segment-2", "segment-1"], ("segment-2", "segment-1")),
    "exclude_audience_ids": (["segment-3"], ("segment-3",)),
    "purpose": ("email", "email"),
}
"""The fields of the selector: as a request has them in JSON, and as the selection has them."""

REQUESTS = {
    method.input_type.name: method.input_type
    for service in SERVICES
    for method in service.methods
    if {"audience_id", "filter"} <= set(method.input_type.fields_by_name)
}


@pytest.mark.parametrize("field", WRITTEN)
@pytest.mark.parametrize("request_type", REQUESTS.values(), ids=REQUESTS)
def test_each_field_of_a_selector_is_read_if_the_request_has_it(request_type: Descriptor, field: str) -> None:
    """A field that the request's type lacks is empty."""
    written, expected = WRITTEN[field]
    if field not in request_type.fields_by_name:
        assert decode_selection(GetMessageClass(request_type)()) == AudienceSelector()  # type: ignore[arg-type]
        return
    request: Any = ParseDict({field: written}, GetMessageClass(request_type)())
    changed: dict[str, Any] = {field: expected}
    assert decode_selection(request) == AudienceSelector(**changed)


@pytest.mark.parametrize("name", ["EstimateReachRequest", "StreamReachRequest"])
def test_reach_takes_every_field_of_the_selector(name: str) -> None:
    """The fields have the same numbers in every request that takes them all."""
    fields = REQUESTS[name].fields_by_name
    assert [fields[field].number for field in WRITTEN] == [1, 2, 3, 4, 5, 6]
