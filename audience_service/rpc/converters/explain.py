"""Converters of filter explanations and of fields."""

from audience_service.domain.explain.filter_explanation import FilterExplanation
from audience_service.domain.explain.index_advice import IndexAdvice
from audience_service.domain.explain.query_plan import PlanKind, QueryPlan
from audience_service.domain.schema.service import Field, FieldList
from audience_service.pb.audience.v1 import filter_service_pb2 as filter_pb
from audience_service.rpc.converters.filters import encode_warnings
from audience_service.rpc.converters.structs import encode_value

_PLAN_KINDS = {PlanKind.INDEX: filter_pb.PLAN_KIND_INDEX, PlanKind.SCAN: filter_pb.PLAN_KIND_SCAN}


def decode_analyze(message: filter_pb.ExplainFilterRequest) -> bool:
    """Whether to run the query for the plan's execution statistics. True by default."""
    return message.analyze if message.HasField("analyze") else True


def encode_filter_explanation(value: FilterExplanation) -> filter_pb.ExplainFilterResponse:
    """The message of a filter's explanation."""
    return filter_pb.ExplainFilterResponse(
        description=value.description,
        fields=value.fields,
        plan=_encode_plan(value.plan) if value.plan else None,
        index_advice=_encode_advice(value.advice) if value.advice else None,
        warnings=encode_warnings(value.warnings),
    )


def encode_fields(value: FieldList) -> filter_pb.ListFieldsResponse:
    """The message that lists the fields of a datatype."""
    return filter_pb.ListFieldsResponse(
        fields=[_encode_field(field) for field in value.fields],
        sampled_count=value.sample_size,
        complete=value.is_complete,
        omitted_count=value.omitted_count,
    )


def _encode_plan(value: QueryPlan) -> filter_pb.QueryPlan:
    plan = filter_pb.QueryPlan(kind=_PLAN_KINDS[value.kind], index=value.index, join_count=value.joins)
    if stats := value.stats:
        plan.documents_examined = stats.documents_examined
        plan.keys_examined = stats.keys_examined
        plan.matched_count = stats.matched or 0
        plan.documents_examined_per_match = stats.documents_per_match
        plan.milliseconds = stats.milliseconds
    return plan


def _encode_advice(value: IndexAdvice) -> filter_pb.IndexAdvice:
    index = filter_pb.Index(fields=value.fields) if value.fields else None
    return filter_pb.IndexAdvice(datatype=value.datatype, index=index, useful=value.useful, reason=value.reason)


def _encode_field(value: Field) -> filter_pb.Field:
    profile = value.profile
    return filter_pb.Field(
        path=value.path,
        types=[filter_pb.FieldType(name=name, share=share) for name, share in profile.types.items()],
        fill_rate=profile.fill_rate,
        top_values=[filter_pb.FieldValue(value=encode_value(top), share=share) for top, share in profile.top_values],
        operators=value.operators,
    )
