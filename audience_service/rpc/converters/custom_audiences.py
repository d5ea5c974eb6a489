"""Converters of custom audiences."""

from collections.abc import Iterable

from audience_service.domain.core.clock import truncate_to_milliseconds
from audience_service.domain.custom_audiences.audience_types import TypeDescription
from audience_service.domain.custom_audiences.model import (
    CustomAudience,
    CustomAudienceDraft,
    CustomAudienceQuery,
    CustomerMatchSpec,
    ExternalAudience,
    LookalikeSpec,
    PixelSpec,
    Spec,
    Work,
)
from audience_service.pb.audience.v1 import custom_audience_service_pb2 as pb
from audience_service.rpc.converters.audiences import CREATION_STATES
from audience_service.rpc.converters.structs import decode_struct, decode_timestamp, encode_struct, encode_timestamp

_COMPLETE_PERCENT = 100
"""The progress of an audience that needed no creation job."""


def decode_custom_audience_draft(message: pb.CustomAudience) -> CustomAudienceDraft:
    """The fields of a custom audience that a caller may set. Raises InvalidArgument."""
    return CustomAudienceDraft(
        name=message.name,
        type=message.type,
        description=message.description,
        datatype=message.datatype,
        spec=_decode_spec(message),
        external=_decode_external(message.external) if message.HasField("external") else None,
    )


def decode_custom_audience_query(message: pb.ListCustomAudiencesRequest) -> CustomAudienceQuery:
    """The criteria of a list of custom audiences."""
    return CustomAudienceQuery(name=message.name, type=message.type)


def decode_custom_audience_version(message: pb.CustomAudience | pb.DeleteCustomAudienceRequest) -> int | None:
    """The version that a write expects, None for any version."""
    return message.version if message.HasField("version") else None


def encode_custom_audience(value: CustomAudience) -> pb.CustomAudience:
    """The message of a custom audience."""
    return pb.CustomAudience(
        id=value.id,
        name=value.name,
        description=value.description,
        type=value.type,
        datatype=value.datatype,
        customer_match=_encode_customer_match(value.spec) if isinstance(value.spec, CustomerMatchSpec) else None,
        lookalike=_encode_lookalike(value.spec) if isinstance(value.spec, LookalikeSpec) else None,
        retargeting_pixel=_encode_pixel(value.spec) if isinstance(value.spec, PixelSpec) else None,
        contact_count=value.contact_count,
        state=value.state,
        version=value.version,
        create_time=encode_timestamp(value.created_at),
        update_time=encode_timestamp(value.updated_at),
        refresh_time=encode_timestamp(value.refreshed_at),
        author=value.author,
        creation_state=CREATION_STATES[value.creation_state],
        progress=value.creation.progress if value.creation else _COMPLETE_PERCENT,
        error=value.creation.error if value.creation else "",
        latest_refresh=_encode_refresh(value.refresh) if value.refresh else None,
        external=_encode_external(value.external) if value.external else None,
    )


def _decode_external(message: pb.ExternalAudience) -> ExternalAudience:
    synced_at = None
    if message.HasField("synced_time"):
        synced_at = truncate_to_milliseconds(
            decode_timestamp(message.synced_time, "custom_audience.external.synced_time")
        )
    size = message.size if message.HasField("size") else None
    return ExternalAudience(message.platform, message.id, size, synced_at)


def _encode_external(value: ExternalAudience) -> pb.ExternalAudience:
    synced_time = encode_timestamp(value.synced_at)
    return pb.ExternalAudience(platform=value.platform, id=value.id, size=value.size, synced_time=synced_time)


def _encode_refresh(value: Work) -> pb.CustomAudienceRefresh:
    return pb.CustomAudienceRefresh(
        state=CREATION_STATES[value.state],
        progress=value.progress,
        error=value.error,
        start_time=encode_timestamp(value.started_at),
        end_time=encode_timestamp(value.ended_at),
    )


def encode_custom_audience_types(values: Iterable[TypeDescription]) -> pb.ListCustomAudienceTypesResponse:
    """The message that lists the types of custom audience."""
    return pb.ListCustomAudienceTypesResponse(
        types=[
            pb.CustomAudienceType(
                type=value.type,
                title=value.title,
                description=value.description,
                fields=[
                    pb.CustomAudienceTypeField(name=each.name, required=each.required, description=each.description)
                    for each in value.fields
                ],
                limits=value.limits,
                rules=value.rules,
                platform_rules=value.platform_rules,
            )
            for value in values
        ]
    )


def _decode_spec(message: pb.CustomAudience) -> Spec | None:
    match message.WhichOneof("spec"):
        case "customer_match":
            match = message.customer_match
            return CustomerMatchSpec(match.platform, match.rules_version, dict(match.options))
        case "lookalike":
            like = message.lookalike
            size = like.WhichOneof("size")
            return LookalikeSpec(
                source_audience_id=like.source_audience_id,
                share=like.share if size == "share" else None,
                count=like.count if size == "count" else None,
                countries=tuple(like.countries),
                include_source=like.include_source,
                fields=tuple(like.fields),
                exclude_fields=tuple(like.exclude_fields),
            )
        case "retargeting_pixel":
            pixel = message.retargeting_pixel
            return PixelSpec(
                where=decode_struct(pixel.where) if pixel.HasField("where") else None,
                within_days=pixel.within_days,
                event_datatype=pixel.event_datatype,
                date_field=pixel.date_field,
                contact_field=pixel.contact_field,
                min_events=pixel.min_events,
            )
        case _:
            return None


def _encode_customer_match(value: CustomerMatchSpec) -> pb.CustomerMatchSpec:
    return pb.CustomerMatchSpec(platform=value.platform, rules_version=value.rules_version, options=value.options)


def _encode_lookalike(value: LookalikeSpec) -> pb.LookalikeSpec:
    message = pb.LookalikeSpec(
        source_audience_id=value.source_audience_id,
        countries=value.countries,
        include_source=value.include_source,
        fields=value.fields,
        exclude_fields=value.exclude_fields,
    )
    if value.share is not None:
        message.share = value.share
    if value.count is not None:
        message.count = value.count
    return message


def _encode_pixel(value: PixelSpec) -> pb.RetargetingPixelSpec:
    return pb.RetargetingPixelSpec(
        event_datatype=value.event_datatype,
        where=encode_struct(value.where or {}),
        within_days=value.within_days,
        date_field=value.date_field,
        contact_field=value.contact_field,
        min_events=value.min_events,
    )
