"""What GetInsights promises, on a real engine; the embedded store refuses it."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from bson import Decimal128, ObjectId
from bson.datetime_ms import DatetimeMS
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from audience_service.domain.breakdown import PERCENTS, CellKind
from audience_service.domain.caller import Deadline
from audience_service.domain.dimensions import read_dimensions
from audience_service.domain.filters import Filter, FilterCompiler
from audience_service.domain.insights import MOST_VALUES
from tests import insights_by_hand as by_hand
from tests.awkward import Shape, awkward_contacts
from tests.client import Client, Refusal
from tests.conftest import Service, mongo_database, run_service

NEVER = Deadline(None)
PATHS = ["data.plan", "data.spend", "data.score", "data.address.city", "state"]
VIPS = {"$or": [{"tags": "vip"}, {"score": {"$gte": 60}}]}

SEEDS = st.integers(0, 2**32)
SHAPES = st.builds(
    Shape, st.floats(0.02, 1), st.floats(0, 1), st.integers(1, 3_000), st.sampled_from([0, 0.02, 0.25, 0.9, 1])
)
MOMENTS = st.sampled_from([datetime(2028, 2, 29, 12, 30, 15, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)])
a_few = settings(
    max_examples=5,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
"""Examples of 5,000 contacts each, which would be long in the shrinking."""


@pytest.fixture(scope="module")
def telling(real_service: Service) -> Iterator[Service]:
    """A server that suppresses nothing and keeps no baseline."""
    with mongo_database() as store:
        yield from run_service("mongodb", store, insights_min_cell=0, insights_baseline_seconds=0)


def segment(client: Client, where: dict[str, Any], **fields: Any) -> str:
    """The id of a new segment."""
    made = client.create(name=str(where), filter={"datatype": "contact", "where": where}, **fields)
    return str(made.id)


def insights(client: Client, audience_id: str, *dimensions: str, **fields: Any) -> Any:
    """The answer."""
    return client.call("GetInsights", {"id": audience_id, "dimensions": dimensions, **fields}, timeout=60)


def shown(dimension: Any) -> dict[str, int]:
    """Counts by value."""
    return {bucket.value: bucket.count for bucket in dimension.buckets}


def told(quantiles: Any) -> dict[str, float]:
    """Quantiles by name."""
    return {descriptor.name: value for descriptor, value in quantiles.ListFields()}


def expected_quantiles(name: str, records: list[Any], moment: datetime) -> dict[str, float]:
    """By nearest rank, of dimensions that have numbers, where half of the values at least are some."""
    if name != "score" and name in by_hand.PATHS:
        return {}
    ordered = by_hand.numbers(name, records)
    there = len(records) - by_hand.counts(name, records, moment)["\0missing"]
    if not ordered or len(ordered) * 2 < there:
        return {}
    names = {"min": 0, "p10": 10, "p25": 25, "p50": 50, "p75": 75, "p90": 90, "max": 100}
    return {label: by_hand.quantile(ordered, percent) for label, percent in names.items()}


@a_few
@given(seed=SEEDS, shape=SHAPES, moment=MOMENTS)
def test_every_count_is_what_is_counted_by_hand(telling: Service, seed: int, shape: Shape, moment: datetime) -> None:
    org = f"hand{next(telling.names)}x"
    contacts = awkward_contacts(5_000, moment, seed, shape)
    telling.insert(org, contacts)
    living = [contact for contact in contacts if contact["state"] != "deleted"]
    dimensions = read_dimensions([]) + read_dimensions(PATHS)
    everyone = FilterCompiler(["contact"]).compile(Filter("contact", {}))
    found = telling.store.insights.breakdown(org, everyone, dimensions, moment, 10_000, NEVER)
    assert found.size == len(living)
    for dimension, cells in zip(dimensions, found.dimensions, strict=True):
        expected = by_hand.counts(dimension.name, living, moment)
        counted = {
            cell.label if cell.kind is CellKind.VALUE else f"\0{cell.kind}": cell.count
            for cell in cells.cells
            if cell.count
        }
        assert counted == expected, dimension.name
        assert len([cell for cell in cells.cells if cell.count]) == len(expected), dimension.name
        assert (cells.several > 1) == (sum(expected.values()) > len(living)), dimension.name
        if dimension.name not in ("score", *PATHS):
            continue
        ordered = by_hand.numbers(dimension.name, living)
        assert cells.numbers == len(ordered), dimension.name
        for percent in PERCENTS if ordered else ():
            quantile = cells.quantiles[percent]
            value = by_hand.quantile(ordered, percent)
            assert quantile.value == value
            assert quantile.at_most == sum(number <= value for number in ordered)
            assert quantile.at_least == sum(number >= value for number in ordered)


@a_few
@given(seed=SEEDS, shape=SHAPES, limit=st.integers(1, 100))
def test_every_number_of_an_answer_is_what_is_computed_by_hand(
    telling: Service, seed: int, shape: Shape, limit: int
) -> None:
    org, now = f"answer{next(telling.names)}x", datetime.now(UTC)
    telling.insert(org, awkward_contacts(5_000, now, seed, shape))
    telling.insert(f"{org}2", awkward_contacts(50, now, seed + 1, shape))
    client = telling.client(org)
    records = list(telling.store.database["contact"].find({"sk": {"$regex": f"^{org}/"}, "state": {"$ne": "deleted"}}))
    vip = segment(client, VIPS)
    ids = set(client.members(audienceId=vip))
    members = [record for record in records if record["pk"] in ids]
    for asked in ([], PATHS):
        answer = insights(client, vip, *asked, bucketLimit=limit)
        assert [dimension.name for dimension in answer.dimensions] == (asked or list(by_hand.PATHS))
        check(answer, members, records, limit)


def check(answer: Any, members: list[Any], records: list[Any], limit: int) -> None:
    """Every number of the answer is that of the members, beside all records of the org."""
    read_at = answer.read_at.ToDatetime(UTC)
    assert (answer.count, answer.baseline_count, answer.min_cell) == (len(members), len(records), 0)
    for dimension in answer.dimensions:
        ours = by_hand.counts(dimension.name, members, read_at)
        theirs = by_hand.counts(dimension.name, records, answer.baseline_read_at.ToDatetime(UTC))
        banded = dimension.name in (*by_hand.DATES, "ageBand", "score")
        named = {b.value if b.kind == "value" else f"\0{b.kind}": b for b in dimension.buckets if b.kind != "other"}
        read = sorted((count for label, count in theirs.items() if label[0] != "\0"), reverse=True)[:MOST_VALUES]
        for label, bucket in named.items():
            assert bucket.count == ours[label], dimension.name
            if bucket.HasField("baseline_count"):
                assert bucket.baseline_count == theirs[label], dimension.name
            else:
                assert len(read) == MOST_VALUES
                assert theirs[label] <= read[-1], "it is none of those that were read"
        rest = sum(count for label, count in ours.items() if label not in named)
        others = [bucket for bucket in dimension.buckets if bucket.kind == "other"]
        assert [bucket.count for bucket in others] in ([rest], [] if not rest else [rest])
        if all(b.HasField("baseline_count") for b in named.values()):
            assert [b.baseline_count for b in others] in ([], [sum(theirs.values()) - sum(theirs[k] for k in named)])
            assert sum(b.baseline_count for b in dimension.buckets) == sum(theirs.values())
        assert sum(b.value_count for b in others) == len([label for label in ours if label not in named])
        if not dimension.multi_valued:
            assert sum(bucket.count for bucket in dimension.buckets) == answer.count
        values = [bucket for bucket in dimension.buckets if bucket.kind == "value"]
        if not banded:
            most = sorted((count for label, count in ours.items() if label[0] != "\0"), reverse=True)[:limit]
            assert [bucket.count for bucket in values] == most
        without = sum(
            not any(label[0] != "\0" for label in by_hand.labels(dimension.name, record, read_at)) for record in members
        )
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
            assert told(quantiles) == expected_quantiles(dimension.name, those, read_at), dimension.name


def test_small_cells_are_not_told_and_cannot_be_computed(real_service: Service) -> None:
    org, now = "small", datetime.now(UTC)
    real_service.insert(org, awkward_contacts(3_000, now, 5))
    client = real_service.client(org)
    records = list(real_service.store.database["contact"].find({"sk": {"$regex": f"^{org}/"}}))
    for where in ({}, VIPS, {"country": "日本"}, {"country": "日本", "score": {"$gte": 90}}):
        audience = segment(client, where)
        ids = set(client.members(audienceId=audience))
        members = [record for record in records if record["pk"] in ids]
        answer, more = (insights(client, audience, *asked, bucketLimit=100) for asked in ([], PATHS))
        assert (answer.count, answer.min_cell) == (more.count, 5) == (len(members), 5)
        for dimension in (*answer.dimensions, *more.dimensions):
            ours = by_hand.counts(dimension.name, members, answer.read_at.ToDatetime(UTC))
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
                assert bucket.value_count > 1 or len(dimension.buckets) == 1, dimension.name
                assert bucket.count >= 5 or bucket.count == answer.count or dimension.multi_valued
            if not dimension.multi_valued:
                assert sum(bucket.count for bucket in dimension.buckets) == answer.count


def test_one_small_cell_takes_the_next_with_it(real_service: Service) -> None:
    client = real_service.client("pair")
    sources = ["web"] * 20 + ["ads"] * 8 + ["api"] * 3
    real_service.insert("pair", [{"data": {"source": source, "score": 1}} for source in sources])
    answer = insights(client, segment(client, {}), "source", "score")
    assert shown(answer.dimensions[0]) == {"web": 20, "(suppressed)": 11}
    assert [bucket.value_count for bucket in answer.dimensions[0].buckets] == [1, 2]
    few = insights(client, segment(client, {"source": "api"}), "source", "score")
    assert shown(few.dimensions[0]) == {"(suppressed)": 3, "(other)": 0}
    assert (few.count, few.baseline_count) == (3, 31)
    assert not few.dimensions[1].HasField("quantiles"), "three numbers are too few"
    assert not few.dimensions[0].HasField("with_value_count")


def test_location_is_found_in_three_places(telling: Service) -> None:
    client = telling.client("places")
    places: list[dict[str, Any]] = [
        {"country": "FR"},
        {"address": {"country": "FR", "city": "Paris"}},
        {"address": [{"city": "Lyon"}, {"country": " FR "}]},
        {"country": "", "address": [{"country": "DE"}, {"country": "FR"}]},
        {"country": {"code": "FR"}},
        {},
    ]
    telling.insert("places", [{"data": place} for place in places])
    answer = insights(client, segment(client, {}), "country", "city")
    assert shown(answer.dimensions[0]) == {"FR": 3, "DE": 1, "(invalid)": 1, "(missing)": 1}
    assert shown(answer.dimensions[1]) == {"Lyon": 1, "Paris": 1, "(missing)": 4}
    assert list(answer.dimensions[0].paths) == ["data.country", "data.address.country"]


def test_a_value_that_looks_like_a_kind_is_told_from_it(telling: Service) -> None:
    client = telling.client("named")
    telling.insert("named", [{"data": {"source": "(missing)"}}, {"data": {"source": "(missing)"}}, {"data": {}}])
    buckets = insights(client, segment(client, {}), "source").dimensions[0].buckets
    assert [(b.kind, b.value, b.count) for b in buckets] == [("value", "(missing)", 2), ("missing", "(missing)", 1)]


def test_lists_of_static_segments_and_joined_filters_are_broken_down(telling: Service) -> None:
    client = telling.client("lists")
    ids = telling.insert("lists", [{"data": {"source": s}} for s in ("web", "web", "ads")] + [{"state": "archived"}])
    static = client.create(name="static", type="static", contactIds=ids[:2])
    assert shown(insights(client, static.id, "source").dimensions[0]) == {"web": 2, "(other)": 0}
    outside = segment(client, {"$nor": [{"$inAudience": static.id}]})
    answer = insights(client, outside, "source")
    assert (shown(answer.dimensions[0]), answer.baseline_count) == ({"ads": 1, "(other)": 0}, 3)
    archived = insights(client, segment(client, {"state": "archived"}), "source")
    assert shown(archived.dimensions[0]) == {"(missing)": 1, "(other)": 0}, "they are no part of the baseline"


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (DatetimeMS(253_402_300_800_000), {"(invalid)": 1}),
        (DatetimeMS(-62_135_596_800_001), {"(invalid)": 1}),
        (datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), {"9999-12": 1}),
        (datetime(1, 1, 1, tzinfo=UTC), {"0001-01": 1}),
        ("0000-00-00", {"0000-00-00": 1}),
        (Decimal128("1E400"), {"(invalid)": 1}),
        (Decimal128("1E-400"), {"0": 1}),
        ([0.0, -0.0, "-0", Decimal128("-0")], {"0": 1}),
        ([float("nan"), "vip"], {"vip": 1}),
        ([float("nan"), {"a": 1}], {"(invalid)": 1}),
        ([[["x"]], None, ""], {"(invalid)": 1}),
        (ObjectId(), {"(invalid)": 1}),
        ([None, "", [], {}, " "], {"(missing)": 1}),
    ],
)
def test_whatever_is_stored_has_a_bucket(telling: Service, stored: Any, expected: dict[str, int]) -> None:
    org = f"stored{next(telling.names)}x"
    telling.insert(org, [{"data": {"v": stored}}])
    [dimension] = insights(telling.client(org), segment(telling.client(org), {}), "v").dimensions
    assert shown(dimension) == expected
    assert dimension.with_value_count == (0 if {"(invalid)", "(missing)"} & set(expected) else 1)


def test_an_expression_that_fails_is_refused_at_the_audience(
    service: Service, client: Client, refused: Callable[..., Refusal], insert: Callable[..., list[str]]
) -> None:
    if service.kind == "embedded":
        return
    insert([{"data": {"n": "many"}}])
    audience = segment(client, {"$expr": {"$gt": [{"$divide": ["$data.n", 2]}, 1]}})
    refusal = refused(lambda: insights(client, audience))
    assert (refusal.info.reason, refusal.fields) == ("EXPRESSION_FAILED", ["id"])


def test_nobody_has_no_shares(telling: Service) -> None:
    client = telling.client("nobody")
    answer = insights(client, segment(client, {}))
    assert (answer.count, answer.baseline_count, len(answer.dimensions)) == (0, 0, len(by_hand.PATHS))
    assert all(not dimension.buckets for dimension in answer.dimensions)


def test_a_baseline_is_kept_for_a_while(real_service: Service) -> None:
    client = real_service.client("kept")
    web = [{"data": {"source": "web"}} for _ in range(6)]
    real_service.insert("kept", web)
    some = segment(client, {"source": "web"})
    first = insights(client, some, "source")
    real_service.insert("kept", web)
    second = insights(client, some, "source")
    assert (second.count, second.baseline_count) == (12, 6)
    assert second.baseline_read_at == first.baseline_read_at
    assert insights(client, segment(client, {}), "source").baseline_count == 12, "the org itself is read anew"
    assert insights(client, some, "source").baseline_count == 12, "and is the baseline from then on"


@pytest.mark.parametrize(
    ("dimensions", "field"),
    [
        (["country", "email"], "dimensions[1]"),
        (["data.firstName"], "dimensions[0]"),
        (["address.street1"], "dimensions[0]"),
        (["birthday"], "dimensions[0]"),
        (["subscriptions.phone"], "dimensions[0]"),
        (["name"], "dimensions[0]"),
        (["pk"], "dimensions[0]"),
        (["a..b"], "dimensions[0]"),
        (["$tags"], "dimensions[0]"),
        (["tags.0"], "dimensions[0]"),
        (["data"], "dimensions[0]"),
        ([f"d{number}" for number in range(21)], "dimensions"),
    ],
)
def test_what_is_no_dimension_is_refused(
    client: Client, refused: Callable[..., Refusal], dimensions: list[str], field: str
) -> None:
    audience = segment(client, {})
    refusal = refused(lambda: insights(client, audience, *dimensions))
    assert (refusal.code, refusal.info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert refusal.fields == [field]


def test_unknown_audiences_and_limits_are_refused(client: Client, refused: Callable[..., Refusal]) -> None:
    assert refused(lambda: insights(client, "segment-none")).info.reason == "AUDIENCE_NOT_FOUND"
    assert refused(lambda: client.call("GetInsights", {})).info.reason == "AUDIENCE_NOT_FOUND"
    assert refused(lambda: insights(client, segment(client, {}), bucketLimit=-1)).fields == ["bucket_limit"]


def test_the_embedded_store_refuses(service: Service, client: Client, refused: Callable[..., Refusal]) -> None:
    if service.kind != "embedded":
        return
    refusal = refused(lambda: insights(client, segment(client, {})))
    assert (refusal.code, refusal.info.reason) == (grpc.StatusCode.UNIMPLEMENTED, "UNSUPPORTED_BY_STORE")


def test_dates_are_seen_from_the_moment_of_the_call(telling: Service) -> None:
    client = telling.client("dates")
    now = datetime.now(UTC)
    moments = [now - timedelta(days=6, hours=23), now - timedelta(days=7, hours=1), now + timedelta(hours=1)]
    dates: list[Any] = [*moments, *(f"{moment:%Y-%m-%dT%H:%M:%S}.000Z" for moment in moments), "soon", None]
    telling.insert("dates", [{"data": {"lastEmailOpenedAt": date}} for date in dates])
    answer = insights(client, segment(client, {}), "lastOpened")
    assert shown(answer.dimensions[0]) == {
        "in the future": 2,
        "last 7 days": 2,
        "8 to 30 days ago": 2,
        "(invalid)": 1,
        "(missing)": 1,
    }
