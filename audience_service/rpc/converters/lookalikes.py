"""Converters of lookalike models."""

from collections.abc import Iterable

from audience_service.domain.core.result_warning import ResultWarning
from audience_service.domain.lookalikes.model import UNIT, FieldModel, LookalikeModel
from audience_service.pb.audience.v1 import custom_audience_service_pb2 as pb
from audience_service.rpc.converters.result_warnings import encode_result_warnings
from audience_service.rpc.converters.structs import encode_timestamp


def encode_lookalike_model(
    audience_id: str, value: LookalikeModel, warnings: Iterable[ResultWarning]
) -> pb.LookalikeModel:
    """The message of an audience's model. Its weights and scores are in nats."""
    return pb.LookalikeModel(
        audience_id=audience_id,
        model_version=value.version,
        create_time=encode_timestamp(value.created_at),
        seed_count=value.seed_count,
        holdout_count=value.holdout_count,
        baseline_count=value.baseline_count,
        fields=[_encode_field(field) for field in value.fields],
        curve=[
            pb.LookalikePoint(
                share=point.share,
                count=point.count,
                min_score=point.min_score / UNIT,
                similarity=point.similarity,
                recall=point.recall,
            )
            for point in value.curve
        ],
        auc=value.auc,
        excluded_protected_fields=value.protected_fields,
        source_filter_fields=value.source_fields,
        cutoff_score=value.cutoff_score / UNIT,
        warnings=encode_result_warnings(warnings),
    )


def _encode_field(value: FieldModel) -> pb.LookalikeField:
    return pb.LookalikeField(
        path=value.path,
        information_value=value.information_value,
        decorrelation=value.decorrelation,
        multi_valued=value.multi_valued,
        protected=value.is_protected,
        factors=[
            pb.LookalikeFactor(
                value=factor.value,
                weight=factor.weight / UNIT,
                seed_count=factor.seed_count,
                baseline_count=factor.baseline_count,
            )
            for factor in value.factors
        ],
    )
