"""Uses of audiences as messages."""

from collections.abc import Iterable

from audience_service.domain.audiences.references import AudienceReference, AudienceUse, Usage
from audience_service.pb.audience.v1 import audience_service_pb2 as pb
from audience_service.rpc.converters.structs import encode_timestamp


def decode_use(message: pb.AudienceUse | pb.ReleaseUseRequest) -> AudienceUse:
    """The use in a request; output-only fields are ignored."""
    description = message.description if isinstance(message, pb.AudienceUse) else ""
    return AudienceUse(message.audience_id, message.kind, message.consumer_id, description)


def encode_use(value: AudienceUse) -> pb.AudienceUse:
    """The use as callers get it."""
    return pb.AudienceUse(
        audience_id=value.audience_id,
        kind=value.kind,
        consumer_id=value.consumer_id,
        description=value.description,
        registrant=value.registrant,
        create_time=encode_timestamp(value.created_at),
    )


def encode_usage(value: Usage) -> pb.GetAudienceUsageResponse:
    """What uses an audience, as callers get it."""
    return pb.GetAudienceUsageResponse(
        segments=_encode_references(value.segments),
        segment_count=value.segment_count,
        uses=[encode_use(use) for use in value.uses],
        use_count=value.use_count,
        lookalikes=_encode_references(value.lookalikes),
        lookalike_count=value.lookalike_count,
    )


def _encode_references(values: Iterable[AudienceReference]) -> list[pb.AudienceReference]:
    return [pb.AudienceReference(id=value.id, name=value.name) for value in values]
