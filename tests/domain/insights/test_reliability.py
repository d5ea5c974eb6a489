"""Warnings about insights that mean little."""

from audience_service.domain.insights.comparison import DimensionInsights
from audience_service.domain.insights.dimensions import parse_dimensions
from audience_service.domain.insights.reliability import MIN_MEMBERS, insight_warnings


def dimension(name: str, with_value: int | None) -> DimensionInsights:
    """A dimension with this number of members that have a value."""
    return DimensionInsights(parse_dimensions([name])[0], False, with_value, (), {}, {})


def test_few_members_have_a_warning() -> None:
    """Also without a dimension."""
    assert [warning.reason for warning in insight_warnings(MIN_MEMBERS - 1, [], is_requested=False)] == ["FEW_MEMBERS"]
    assert insight_warnings(MIN_MEMBERS, [], is_requested=False) == ()


def test_a_requested_dimension_without_values_has_a_warning() -> None:
    """One that was not requested is expected to be empty in some orgs; a hidden number is not 0."""
    dimensions = [dimension("country", 0), dimension("tags", 7), dimension("city", None)]
    [warning] = insight_warnings(500, dimensions, is_requested=True)
    assert (warning.reason, warning.subject) == ("NO_VALUES", "country")
    assert insight_warnings(500, dimensions, is_requested=False) == ()


def test_an_empty_audience_has_one_warning() -> None:
    """Nothing has values then."""
    warnings = insight_warnings(0, [dimension("country", 0)], is_requested=True)
    assert [warning.reason for warning in warnings] == ["FEW_MEMBERS"]
