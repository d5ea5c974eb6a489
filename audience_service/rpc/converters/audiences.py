"""Converters of member selectors, creation states and uses of audiences."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, Protocol

from google.protobuf.descriptor import Descriptor

from audience_service.domain.audiences.references import AudienceReference, AudienceUse, Usage
from audience_service.domain.audiences.selection import AudienceSelector
from audience_service.domain.core.idempotency import CreationState
from audience_service.pb.audience.v1 import audience_service_pb2 as pb
from audience_service.pb.audience.v1 import resources_pb2
from audience_service.rpc.converters.filters import decode_filter
from audience_service.rpc.converters.structs import encode_timestamp

CREATION_STATES: "Mapping[CreationState, resources_pb2.CreationState.ValueType]" = {
    CreationState.CREATING: resources_pb2.CREATION_STATE_CREATING,
    CreationState.READY: resources_pb2.CREATION_STATE_READY,
    CreationState.FAILED: resources_pb2.CREATION_STATE_FAILED,
}
"""The wire's number of each creation state."""
_SELECTOR_FIELDS = ("audience_id", "filter", "snapshot_id", "audience_ids", "exclude_audience_ids", "purpose")


class SelectorRequest(Protocol):
    """A request that has some or all of the selector's fields."""

    DESCRIPTOR: Descriptor

    def HasField(self, field_name: Literal["filter"]) -> bool:  # noqa: N802 - protobuf's name
        """Whether the request has a filter."""


def decode_selection(message: SelectorRequest) -> AudienceSelector:
    """The member selector of a request. A field that the request's type lacks is empty. Raises InvalidFilter."""
    fields = message.DESCRIPTOR.fields_by_name
    given: dict[str, Any] = {name: getattr(message, name) for name in _SELECTOR_FIELDS if name in fields}
    has_filter = "filter" in fields and message.HasField("filter")
    return AudienceSelector(
        audience_id=given.get("audience_id", ""),
        filter=decode_filter(given["filter"], "filter") if has_filter else None,
        snapshot_id=given.get("snapshot_id", ""),
        audience_ids=tuple(given.get("audience_ids", ())),
        exclude_audience_ids=tuple(given.get("exclude_audience_ids", ())),
        purpose=given.get("purpose", ""),
    )


def decode_use(message: pb.AudienceUse | pb.ReleaseUseRequest) -> AudienceUse:
    """The use in a request, without its output-only fields."""
    description = message.description if isinstance(message, pb.AudienceUse) else ""
    return AudienceUse(message.audience_id, message.consumer_kind, message.consumer_id, description)


def encode_use(value: AudienceUse) -> pb.AudienceUse:
    """The message of a use."""
    return pb.AudienceUse(
        audience_id=value.audience_id,
        consumer_kind=value.kind,
        consumer_id=value.consumer_id,
        description=value.description,
        registrant=value.registrant,
        create_time=encode_timestamp(value.created_at),
    )


def encode_usage(value: Usage) -> pb.GetAudienceUsageResponse:
    """The message of an audience's usage: segments, lookalikes, syncs and registered uses."""
    return pb.GetAudienceUsageResponse(
        segments=_encode_references(value.segments),
        segment_count=value.segment_count,
        uses=[encode_use(use) for use in value.uses],
        use_count=value.use_count,
        lookalikes=_encode_references(value.lookalikes),
        lookalike_count=value.lookalike_count,
        syncs=_encode_references(value.syncs),
        sync_count=value.sync_count,
    )


def _encode_references(values: Iterable[AudienceReference]) -> list[pb.AudienceReference]:
    return [pb.AudienceReference(id=value.id, name=value.name) for value in values]
