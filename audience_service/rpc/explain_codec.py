"""Explanations and fields as messages."""

from audience_service.domain.explanations.filter_explanation import FilterExplanation
from audience_service.domain.explanations.index_advice import IndexAdvice
from audience_service.domain.explanations.plan import PlanKind, QueryPlan
from audience_service.domain.fields.catalog import Field, FieldList
from audience_service.pb.audience.v1 import filter_service_pb2 as filter_pb
from audience_service.pb.audience.v1 import resources_pb2 as pb
from audience_service.rpc.structs import encode_value

_KINDS = {PlanKind.INDEX: filter_pb.PLAN_KIND_INDEX, PlanKind.SCAN: filter_pb.PLAN_KIND_SCAN}


def decode_analyze(message: filter_pb.ExplainFilterRequest) -> bool:
    """Whether to run the query for the plan's figures; true by default."""
    return message.analyze if message.HasField("analyze") else True


def encode_explanation(value: FilterExplanation) -> filter_pb.ExplainFilterResponse:
    """The explanation as callers see it."""
    return filter_pb.ExplainFilterResponse(
        description=value.words,
        fields=value.fields,
        plan=_encode_plan(value.plan),
        index_advice=_encode_advice(value.advice),
        warnings=[
            pb.FilterWarning(field_path=warning.place, reason=warning.reason, description=warning.description)
            for warning in value.warnings
        ],
    )


def encode_fields(value: FieldList) -> filter_pb.ListFieldsResponse:
    """The fields as callers see them."""
    return filter_pb.ListFieldsResponse(
        fields=[_encode_field(field) for field in value.fields],
        sampled_count=value.sampled,
        complete=value.whole,
        omitted_count=value.omitted,
    )


def _encode_plan(value: QueryPlan) -> filter_pb.QueryPlan:
    plan = filter_pb.QueryPlan(kind=_KINDS[value.kind], index=value.index, joins=value.joins)
    if figures := value.figures:
        plan.documents_examined = figures.documents_examined
        plan.keys_examined = figures.keys_examined
        plan.matched = figures.matched or 0
        plan.documents_examined_per_match = figures.per_match
        plan.milliseconds = figures.milliseconds
    return plan


def _encode_advice(value: IndexAdvice) -> filter_pb.IndexAdvice:
    index = filter_pb.Index(fields=value.fields) if value.fields else None
    return filter_pb.IndexAdvice(datatype=value.datatype, index=index, useful=value.helps, reason=value.why)


def _encode_field(value: Field) -> filter_pb.Field:
    profile = value.profile
    return filter_pb.Field(
        path=value.path,
        types=[filter_pb.FieldType(name=name, share=share) for name, share in profile.types.items()],
        fill_rate=profile.filled,
        top_values=[filter_pb.FieldValue(value=encode_value(top), share=share) for top, share in profile.top_values],
        operators=value.operators,
    )
