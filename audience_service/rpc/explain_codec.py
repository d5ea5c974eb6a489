"""Explanations and fields as messages."""

from audience_service.domain.explanations.filter_explanation import FilterExplanation
from audience_service.domain.explanations.index_advice import IndexAdvice
from audience_service.domain.explanations.plan import PlanKind, QueryPlan
from audience_service.domain.fields.catalog import Field, FieldList
from audience_service.pb.audience.v1 import resources_pb2 as pb
from audience_service.pb.audience.v1 import segment_service_pb2 as segment_pb
from audience_service.rpc.structs import encode_value

_KINDS = {PlanKind.INDEX: segment_pb.PLAN_KIND_INDEX, PlanKind.SCAN: segment_pb.PLAN_KIND_SCAN}


def decode_run(message: segment_pb.ExplainFilterRequest) -> bool:
    """Whether to run the plan; so it is unless the caller says otherwise."""
    return message.run if message.HasField("run") else True


def encode_explanation(value: FilterExplanation) -> segment_pb.ExplainFilterResponse:
    """The explanation as callers see it."""
    return segment_pb.ExplainFilterResponse(
        words=value.words,
        fields=value.fields,
        plan=_encode_plan(value.plan),
        index_advice=_encode_advice(value.advice),
        warnings=[
            pb.FilterWarning(place=warning.place, reason=warning.reason, description=warning.description)
            for warning in value.warnings
        ],
    )


def encode_fields(value: FieldList) -> segment_pb.ListFieldsResponse:
    """The fields as callers see them."""
    return segment_pb.ListFieldsResponse(
        fields=[_encode_field(field) for field in value.fields],
        sampled_count=value.sampled,
        total=value.whole,
        omitted_count=value.omitted,
    )


def _encode_plan(value: QueryPlan) -> segment_pb.QueryPlan:
    plan = segment_pb.QueryPlan(kind=_KINDS[value.kind], index=value.index, joins=value.joins)
    if figures := value.figures:
        plan.documents_examined = figures.documents_examined
        plan.keys_examined = figures.keys_examined
        plan.matched = figures.matched or 0
        plan.documents_examined_per_match = figures.per_match
        plan.milliseconds = figures.milliseconds
    return plan


def _encode_advice(value: IndexAdvice) -> segment_pb.IndexAdvice:
    index = segment_pb.Index(fields=value.fields) if value.fields else None
    return segment_pb.IndexAdvice(datatype=value.datatype, index=index, helps=value.helps, why=value.why)


def _encode_field(value: Field) -> segment_pb.Field:
    profile = value.profile
    return segment_pb.Field(
        path=value.path,
        types=[segment_pb.FieldType(name=name, share=share) for name, share in profile.types.items()],
        filled_share=profile.filled,
        top_values=[segment_pb.FieldValue(value=encode_value(top), share=share) for top, share in profile.top_values],
        operators=value.operators,
    )
