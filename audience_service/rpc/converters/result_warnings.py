"""Converters of warnings about results."""

from collections.abc import Iterable

from audience_service.domain.core.result_warning import ResultWarning
from audience_service.pb.audience.v1 import resources_pb2 as pb


def encode_result_warnings(values: Iterable[ResultWarning]) -> list[pb.ResultWarning]:
    """The messages of warnings about a result."""
    return [
        pb.ResultWarning(reason=value.reason, description=value.description, subject=value.subject) for value in values
    ]
