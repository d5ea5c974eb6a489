"""Every number of GetInsights compared with a reference implementation, small counts included, on a real engine."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audience_service.domain.core.context import Deadline
from audience_service.domain.filters import Filter, FilterCompiler
from audience_service.domain.insights.dimensions import parse_dimensions
from audience_service.domain.insights.model import PERCENTS, BucketKind
from audience_service.domain.insights.service import MAX_VALUES
from tests.conftest import Service
from tests.support import insights_reference as reference
from tests.support.edge_cases import Shape, edge_case_contacts
from tests.support.insights import a_few, insights, segment

NEVER = Deadline(None)
PATHS = ["data.plan", "data.spend", "data.score", "data.address.city", "state"]
VIPS = {"$or": [{"tags": "vip"}, {"score": {"$gte": 60}}]}

SEEDS = st.integers(0, 2**32)
SHAPES = st.builds(
    Shape, st.floats(0.02, 1), st.floats(0, 1), st.integers(1, 3_000), st.sampled_from([0, 0.02, 0.25, 0.9, 1])
)
INSTANTS = st.sampled_from([datetime(2028, 2, 29, 12, 30, 15, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)])


def quantiles_by_name(quantiles: Any) -> dict[str, float]:
    """Quantiles by name."""
    return {descriptor.name: value for descriptor, value in quantiles.ListFields()}


def expected_quantiles(name: str, records: list[Any], timestamp: datetime) -> dict[str, float]:
    """By nearest rank, of dimensions that have numbers, where half of the values at least are some."""
    if name != "score" and name in reference.PATHS:
        return {}
    ordered = reference.numbers(name, records)
    there = len(records) - reference.counts(name, records, timestamp)["\0missing"]
    if not ordered or len(ordered) * 2 < there:
        return {}
    names = {"min": 0, "p10": 10, "p25": 25, "p50": 50, "p75": 75, "p90": 90, "max": 100}
    return {label: reference.quantile(ordered, percent) for label, percent in names.items()}


@a_few
@given(seed=SEEDS, shape=SHAPES, timestamp=INSTANTS)
def test_every_count_equals_the_reference_count(
    disclosing_service: Service, seed: int, shape: Shape, timestamp: datetime
) -> None:
    org = f"hand{next(disclosing_service.names)}x"
    contacts = edge_case_contacts(5_000, timestamp, seed, shape)
    disclosing_service.insert(org, contacts)
    active_ids = [contact for contact in contacts if contact["state"] != "deleted"]
    dimensions = parse_dimensions([]) + parse_dimensions(PATHS)
    all_contacts = FilterCompiler(["contact"]).compile(Filter("contact", {}))
    found = disclosing_service.store.insights.breakdown(org, all_contacts, dimensions, timestamp, 10_000, NEVER)
    assert found.size == len(active_ids)
    for dimension, cells in zip(dimensions, found.dimensions, strict=True):
        expected = reference.counts(dimension.name, active_ids, timestamp)
        counted = {
            cell.label if cell.kind is BucketKind.VALUE else f"\0{cell.kind}": cell.count
            for cell in cells.buckets
            if cell.count
        }
        assert counted == expected, dimension.name
        assert len([cell for cell in cells.buckets if cell.count]) == len(expected), dimension.name
        assert (cells.max_values_per_record > 1) == (sum(expected.values()) > len(active_ids)), dimension.name
        if dimension.name not in ("score", *PATHS):
            continue
        ordered = reference.numbers(dimension.name, active_ids)
        assert cells.number_count == len(ordered), dimension.name
        for percent in PERCENTS if ordered else ():
            quantile = cells.quantiles[percent]
            value = reference.quantile(ordered, percent)
            assert quantile.value == value
            assert quantile.count_at_or_below == sum(number <= value for number in ordered)
            assert quantile.count_at_or_above == sum(number >= value for number in ordered)


@a_few
@given(seed=SEEDS, shape=SHAPES, limit=st.integers(1, 100))
def test_every_number_equals_the_reference_value(
    disclosing_service: Service, seed: int, shape: Shape, limit: int
) -> None:
    org, now = f"answer{next(disclosing_service.names)}x", datetime.now(UTC)
    disclosing_service.insert(org, edge_case_contacts(5_000, now, seed, shape))
    disclosing_service.insert(f"{org}2", edge_case_contacts(50, now, seed + 1, shape))
    client = disclosing_service.client(org)
    records = list(
        disclosing_service.store.database["contact"].find({"sk": {"$regex": f"^{org}/"}, "state": {"$ne": "deleted"}})
    )
    vip = segment(client, VIPS)
    ids = set(client.members(audienceId=vip))
    members = [record for record in records if record["pk"] in ids]
    for request in ([], PATHS):
        answer = insights(client, vip, *request, maxBuckets=limit)
        assert [dimension.name for dimension in answer.dimensions] == (request or list(reference.PATHS))
        check(answer, members, records, limit)


def check(answer: Any, members: list[Any], records: list[Any], limit: int) -> None:
    """Compare every number of the answer with the members and with all records of the org."""
    read_at = answer.read_time.ToDatetime(UTC)
    assert (answer.count, answer.baseline_count, answer.min_bucket_size) == (len(members), len(records), 0)
    for dimension in answer.dimensions:
        ours = reference.counts(dimension.name, members, read_at)
        theirs = reference.counts(dimension.name, records, answer.baseline_read_time.ToDatetime(UTC))
        banded = dimension.name in (*reference.DATES, "ageBand", "score")
        named = {b.value if b.kind == "value" else f"\0{b.kind}": b for b in dimension.buckets if b.kind != "other"}
        read = sorted((count for label, count in theirs.items() if label[0] != "\0"), reverse=True)[:MAX_VALUES]
        for label, bucket in named.items():
            assert bucket.count == ours[label], dimension.name
            if bucket.HasField("baseline_count"):
                assert bucket.baseline_count == theirs[label], dimension.name
            else:
                assert len(read) == MAX_VALUES
                assert theirs[label] <= read[-1], "it is none of those that were read"
        rest = sum(count for label, count in ours.items() if label not in named)
        others = [bucket for bucket in dimension.buckets if bucket.kind == "other"]
        assert [bucket.count for bucket in others] in ([rest], [] if not rest else [rest])
        if all(b.HasField("baseline_count") for b in named.values()):
            assert [b.baseline_count for b in others] in ([], [sum(theirs.values()) - sum(theirs[k] for k in named)])
            assert sum(b.baseline_count for b in dimension.buckets) == sum(theirs.values())
        assert sum(b.combined_value_count for b in others) == len([label for label in ours if label not in named])
        if not dimension.multi_valued:
            assert sum(bucket.count for bucket in dimension.buckets) == answer.count
        values = [bucket for bucket in dimension.buckets if bucket.kind == "value"]
        if not banded:
            most = sorted((count for label, count in ours.items() if label[0] != "\0"), reverse=True)[:limit]
            assert [bucket.count for bucket in values] == most
        labels = [reference.labels(dimension.name, record, read_at) for record in members]
        without = sum(all(label[0] == "\0" for label in each) for each in labels)
        assert dimension.with_value_count == answer.count - without, dimension.name
        for bucket in dimension.buckets:
            assert bucket.share == (bucket.count / answer.count if answer.count else 0)
            if bucket.HasField("baseline_count"):
                assert bucket.baseline_share == bucket.baseline_count / answer.baseline_count
            if bucket.baseline_count:
                assert bucket.index == pytest.approx(bucket.share / bucket.baseline_share * 100)
            else:
                assert not bucket.HasField("index")
        for those, quantiles in ((members, dimension.quantiles), (records, dimension.baseline_quantiles)):
            assert quantiles_by_name(quantiles) == expected_quantiles(dimension.name, those, read_at), dimension.name


def test_small_buckets_are_suppressed_and_cannot_be_inferred(real_service: Service) -> None:
    org, now = "small", datetime.now(UTC)
    real_service.insert(org, edge_case_contacts(3_000, now, 5))
    client = real_service.client(org)
    records = list(real_service.store.database["contact"].find({"sk": {"$regex": f"^{org}/"}}))
    for where in ({}, VIPS, {"country": "日本"}, {"country": "日本", "score": {"$gte": 90}}):
        audience = segment(client, where)
        ids = set(client.members(audienceId=audience))
        members = [record for record in records if record["pk"] in ids]
        answer, more = (insights(client, audience, *request, maxBuckets=100) for request in ([], PATHS))
        assert (answer.count, answer.min_bucket_size) == (more.count, 5) == (len(members), 5)
        for dimension in (*answer.dimensions, *more.dimensions):
            ours = reference.counts(dimension.name, members, answer.read_time.ToDatetime(UTC))
            for bucket in dimension.buckets:
                label = bucket.value if bucket.kind == "value" else f"\0{bucket.kind}"
                if bucket.kind in ("other", "suppressed"):
                    continue
                assert bucket.count == ours[label]
                assert bucket.count == 0 or bucket.count >= 5
                assert not 0 < bucket.baseline_count < 5
            hidden = [bucket for bucket in dimension.buckets if bucket.kind == "suppressed"]
            if any(0 < count < 5 for count in ours.values()) and dimension.name != "company":
                assert hidden or any(bucket.kind == "other" for bucket in dimension.buckets)
            for bucket in hidden:
                assert bucket.combined_value_count == 0, dimension.name
                assert bucket.count >= 5 or bucket.count == answer.count or dimension.multi_valued
            if not dimension.multi_valued:
                assert sum(bucket.count for bucket in dimension.buckets) == answer.count
