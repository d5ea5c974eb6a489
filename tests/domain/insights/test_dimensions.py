"""The table of dimensions."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.insights.dimensions import DIMENSIONS, parse_dimensions
from audience_service.domain.schema.sample_masking import MASKS, VISIBLE_FIELDS, is_personal
from tests.support.insights_reference import PATHS, age_band, recency, score_band

ROOT = Path(__file__).parents[3]
NOW = datetime(2028, 2, 29, 12, 30, tzinfo=UTC)
BANDED = [dimension for dimension in DIMENSIONS.values() if dimension.is_banded]


def test_the_table_is_the_one_that_is_counted_by_hand() -> None:
    assert {name: list(dimension.paths) for name, dimension in DIMENSIONS.items()} == PATHS


def test_bands_leave_no_gap_and_have_names_of_their_own() -> None:
    for found in BANDED:
        bands = found.bands(NOW)
        assert bands[-1].start is None
        assert all(above.start > below.start for above, below in pairwise(bands[:-1]))
        labels = [band.label for band in bands]
        assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("now", [NOW, datetime(2027, 2, 28, tzinfo=UTC), datetime(2026, 3, 1, 23, 59, 59, tzinfo=UTC)])
@pytest.mark.slow
def test_bands_equal_the_reference_to_the_day(now: datetime) -> None:
    for name, reference in (("ageBand", age_band), ("lastOpened", recency)):
        bands = DIMENSIONS[name].bands(now)
        for days in range(-3, 33_000):
            value = now.replace(hour=0, minute=0) - timedelta(days=days)
            found = next(band for band in bands if band.start is None or value >= band.start)
            assert found.label == reference(value, now), value


def test_scores_are_banded_by_twenty() -> None:
    bands = DIMENSIONS["score"].bands(NOW)
    for number in (-1.0, 0.0, 19.99, 20.0, 59.5, 79.0, 80.0, 100.0, 1e9):
        found = next(band for band in bands if band.start is None or number >= band.start)
        assert found.label == score_band(number)


def test_paths_are_resolved_and_dimensions_deduplicated() -> None:
    read = parse_dimensions(["plan", "country", "data.plan", "state", "country", "data.country"])
    assert [dimension.name for dimension in read] == ["data.plan", "country", "state", "data.country"]


def test_personal_data_is_no_dimension() -> None:
    assert all(is_personal(f"data.{name}") for name in MASKS)
    assert not any(is_personal(f"data.{name}") for name in VISIBLE_FIELDS)
    for path in ("data.workEmail", "data.address.street1", "data.MobilePhone", "data.full_name", "owner.email", "name"):
        assert is_personal(path)
        with pytest.raises(InvalidArgument, match=r"dimensions\[0\]"):
            parse_dimensions([path])
    assert not is_personal("data.company.name")


def test_the_proto_names_every_dimension() -> None:
    proto = (ROOT / "protos/audience/v1/reach_service.proto").read_text()
    assert [name for name in DIMENSIONS if name not in proto] == []
