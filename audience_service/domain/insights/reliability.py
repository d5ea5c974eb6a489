"""Whether insights mean anything: warnings about small audiences and empty dimensions."""

from collections.abc import Iterator, Sequence

from audience_service.domain.core.result_warning import ResultRule, ResultWarning
from audience_service.domain.insights.comparison import DimensionInsights

MIN_MEMBERS = 100
"""Below this the standard error of a share reaches 5 percentage points."""


def insight_warnings(
    size: int, dimensions: Sequence[DimensionInsights], *, is_requested: bool
) -> tuple[ResultWarning, ...]:
    """The warnings about an audience of `size` members. An empty dimension is worth one only if it was requested."""
    return tuple(_warnings(size, dimensions if is_requested else ()))


def _warnings(size: int, dimensions: Sequence[DimensionInsights]) -> Iterator[ResultWarning]:
    if size < MIN_MEMBERS:
        yield ResultWarning(
            ResultRule.FEW_MEMBERS,
            f"the audience has {size:,} members; shares and indexes of fewer than {MIN_MEMBERS} vary by chance",
        )
    for dimension in dimensions:
        if size and dimension.with_value == 0:
            yield ResultWarning(
                ResultRule.NO_VALUES,
                f"no member has a valid value of {dimension.dimension.name}; ListFields lists the fields with values",
                dimension.dimension.name,
            )
