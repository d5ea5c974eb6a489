"""Warnings about lookalikes that mean little."""

from datetime import UTC, datetime

import pytest

from audience_service.domain.lookalikes.model import FieldModel, LookalikeModel
from audience_service.domain.lookalikes.quality import model_warnings


def trained(
    auc: float | None, holdout_count: int = 400, cutoff_score: int = 7, values: tuple[float, ...] = (1.0,)
) -> LookalikeModel:
    """A model with fields of these information values."""
    fields = tuple(FieldModel(f"data.f{n}", value, 1.0, (), multi_valued=False) for n, value in enumerate(values))
    return LookalikeModel(
        version=1,
        created_at=datetime(2026, 11, 1, tzinfo=UTC),
        seed_count=holdout_count * 5,
        holdout_count=holdout_count,
        baseline_count=100_000,
        fields=fields,
        curve=(),
        auc=auc,
        protected_fields=(),
        source_fields=(),
        cutoff_score=cutoff_score,
    )


@pytest.mark.parametrize(
    ("auc", "holdout_count", "cutoff_score", "reasons"),
    [
        (0.75, 400, 50, []),
        (0.75, 400, 0, ["NO_MEMBERS"]),
        (0.52, 400, 50, ["NEAR_CHANCE"]),
        (0.599, 10_000, 50, ["NEAR_CHANCE"]),
        (0.6, 10_000, 50, []),
        (0.64, 10, 50, ["NEAR_CHANCE"]),  # two standard errors are 0.18
        (0.5, 0, 50, ["NEAR_CHANCE"]),
        (0.5, 400, 0, ["NO_MEMBERS", "NEAR_CHANCE"]),
        (0.99, 400, 50, []),
        (1.0, 400, 50, ["PROXY_FIELD"]),
        (None, 0, 50, []),
    ],
)
def test_a_lookalike_without_meaning_has_a_warning(
    auc: float | None, holdout_count: int, cutoff_score: int, reasons: list[str]
) -> None:
    """A model near chance, an empty list, and a seed that one field gives away."""
    warnings = model_warnings(trained(auc, holdout_count, cutoff_score))
    assert [warning.reason for warning in warnings] == reasons


def test_the_proxies_are_the_fields_that_separate_about_as_well_as_the_best() -> None:
    """A city gives the seed away as its region does; a weak field is none."""
    warnings = model_warnings(trained(1.0, values=(0.2, 8.0, 5.0, 1.0)))
    assert [warning.subject for warning in warnings] == ["data.f1", "data.f2"]
