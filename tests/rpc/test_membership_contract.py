"""Rules of the membership messages that protoc does not check."""

from collections.abc import Iterator

import pytest
from google.api.field_behavior_pb2 import field_behavior
from google.protobuf.descriptor import Descriptor
from google.protobuf.json_format import MessageToDict

from audience_service.domain.exports.batches import ADD, REMOVE, ExportPart
from audience_service.domain.identifiers.platforms import PLATFORM_RULES
from audience_service.pb.audience.v1 import membership_service_pb2 as pb
from audience_service.rpc.converters.exports import encode_export

SELECTOR = {
    "audience_id": 1,
    "filter": 2,
    "snapshot_id": 3,
    "audience_ids": 4,
    "exclude_audience_ids": 5,
    "purpose": 6,
}
SELECTING = (
    pb.StreamMembersRequest,
    pb.CreateSnapshotRequest,
    pb.ExportIdentifiersRequest,
    pb.ExplainMembershipRequest,
)


def behaving() -> Iterator[Descriptor]:
    """The request and resource messages of the service."""
    for name, message in pb.DESCRIPTOR.message_types_by_name.items():
        if name.endswith("Request") or name in ("Partition", "Snapshot", "SnapshotSource"):
            yield message


@pytest.mark.parametrize("request_", [message.DESCRIPTOR for message in SELECTING], ids=lambda found: str(found.name))
def test_the_selector_has_the_same_names_and_numbers_in_every_request(request_: Descriptor) -> None:
    """A request that does not take a selector field keeps its number free for it."""
    selected = {field.name: field.number for field in request_.fields if field.number <= len(SELECTOR)}
    assert selected.items() <= SELECTOR.items()
    assert {"audience_id", "filter"} <= set(selected)
    assert all(field.name not in SELECTOR for field in request_.fields if field.number > len(SELECTOR))
    [selection] = request_.oneofs
    assert selection.name == "selection"
    assert {field.name for field in selection.fields} == {"audience_id", "filter", "snapshot_id"} & set(selected)


@pytest.mark.parametrize("message", list(behaving()), ids=lambda found: str(found.name))
def test_every_field_of_requests_and_resources_declares_its_behaviour(message: Descriptor) -> None:
    """REQUIRED, OPTIONAL or OUTPUT_ONLY, so that generated clients and readers know."""
    assert [field.name for field in message.fields if not field.GetOptions().Extensions[field_behavior]] == []


@pytest.mark.parametrize(
    ("operation", "name"), [(ADD, "EXPORT_OPERATION_ADD"), (REMOVE, "EXPORT_OPERATION_REMOVE"), ("", None)]
)
def test_json_names_the_export_operation_and_omits_it_without_rows(operation: str, name: str | None) -> None:
    """The JSON name of an enum is part of the contract."""
    part = ExportPart(PLATFORM_RULES[0], ["EMAIL"], "cursor", operation=operation)
    assert MessageToDict(encode_export(part)).get("operation") == name
