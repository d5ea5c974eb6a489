"""What GetInsights promises, on a real engine; the embedded store refuses it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from bson import Decimal128, ObjectId
from bson.datetime_ms import DatetimeMS

from tests.conftest import Service
from tests.support import insights_reference as reference
from tests.support.client import Client, Refusal
from tests.support.insights import counts_by_value, insights, segment


def test_one_small_cell_takes_the_next_with_it(real_service: Service) -> None:
    client = real_service.client("pair")
    sources = ["web"] * 20 + ["ads"] * 8 + ["api"] * 3
    real_service.insert("pair", [{"data": {"source": source, "score": 1}} for source in sources])
    answer = insights(client, segment(client, {}), "source", "score")
    assert counts_by_value(answer.dimensions[0]) == {"web": 20, "(suppressed)": 11}
    assert [bucket.combined_value_count for bucket in answer.dimensions[0].buckets] == [1, 0]
    few = insights(client, segment(client, {"source": "api"}), "source", "score")
    assert counts_by_value(few.dimensions[0]) == {"(suppressed)": 3}
    assert not any(bucket.HasField("baseline_count") for dimension in few.dimensions for bucket in dimension.buckets)
    assert (few.count, few.baseline_count) == (3, 31)
    assert not few.dimensions[1].HasField("quantiles"), "three numbers are too few"
    assert not few.dimensions[0].HasField("with_value_count")


def test_location_is_read_from_three_paths(disclosing_service: Service) -> None:
    client = disclosing_service.client("places")
    locations: list[dict[str, Any]] = [
        {"country": "FR"},
        {"address": {"country": "FR", "city": "Paris"}},
        {"address": [{"city": "Lyon"}, {"country": " FR "}]},
        {"country": "", "address": [{"country": "DE"}, {"country": "FR"}]},
        {"country": {"code": "FR"}},
        {},
    ]
    disclosing_service.insert("places", [{"data": location} for location in locations])
    answer = insights(client, segment(client, {}), "country", "city")
    assert counts_by_value(answer.dimensions[0]) == {"FR": 3, "DE": 1, "(invalid)": 1, "(missing)": 1}
    assert counts_by_value(answer.dimensions[1]) == {"Lyon": 1, "Paris": 1, "(missing)": 4}
    assert list(answer.dimensions[0].paths) == ["data.country", "data.address.country"]


def test_a_value_that_equals_a_bucket_kind_stays_distinct(disclosing_service: Service) -> None:
    client = disclosing_service.client("named")
    disclosing_service.insert(
        "named", [{"data": {"source": "(missing)"}}, {"data": {"source": "(missing)"}}, {"data": {}}]
    )
    buckets = insights(client, segment(client, {}), "source").dimensions[0].buckets
    assert [(b.kind, b.value, b.count) for b in buckets] == [("value", "(missing)", 2), ("missing", "(missing)", 1)]


def test_lists_of_static_segments_and_joined_filters_are_broken_down(disclosing_service: Service) -> None:
    client = disclosing_service.client("lists")
    ids = disclosing_service.insert(
        "lists", [{"data": {"source": s}} for s in ("web", "web", "ads")] + [{"state": "archived"}]
    )
    static = client.create(name="static", type="static", contactIds=ids[:2])
    assert counts_by_value(insights(client, static.id, "source").dimensions[0]) == {"web": 2, "(other)": 0}
    outside = segment(client, {"$nor": [{"$inAudience": static.id}]})
    answer = insights(client, outside, "source")
    assert (counts_by_value(answer.dimensions[0]), answer.baseline_count) == ({"ads": 1, "(other)": 0}, 3)
    archived = insights(client, segment(client, {"state": "archived"}), "source")
    assert counts_by_value(archived.dimensions[0]) == {"(missing)": 1, "(other)": 0}, "they are no part of the baseline"


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
def test_whatever_is_stored_has_a_bucket(disclosing_service: Service, stored: Any, expected: dict[str, int]) -> None:
    org = f"stored{next(disclosing_service.names)}x"
    disclosing_service.insert(org, [{"data": {"v": stored}}])
    [dimension] = insights(disclosing_service.client(org), segment(disclosing_service.client(org), {}), "v").dimensions
    assert counts_by_value(dimension) == expected
    assert dimension.with_value_count == (0 if {"(invalid)", "(missing)"} & set(expected) else 1)


def test_an_expression_that_fails_is_refused_at_the_audience(
    service: Service, client: Client, refused: Callable[..., Refusal], insert: Callable[..., list[str]]
) -> None:
    if service.kind == "embedded":
        return
    insert([{"data": {"n": "many"}}])
    audience = segment(client, {"$expr": {"$gt": [{"$divide": ["$data.n", 2]}, 1]}})
    refusal = refused(lambda: insights(client, audience))
    assert (refusal.info.reason, refusal.fields) == ("EXPRESSION_FAILED", ["audience_id"])


def test_an_empty_audience_has_no_shares(disclosing_service: Service) -> None:
    client = disclosing_service.client("nobody")
    answer = insights(client, segment(client, {}))
    assert (answer.count, answer.baseline_count, len(answer.dimensions)) == (0, 0, len(reference.PATHS))
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
    assert second.baseline_read_time == first.baseline_read_time
    assert insights(client, segment(client, {}), "source").baseline_count == 12, "the org itself is read again"
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
def test_an_unknown_dimension_is_refused(
    client: Client, refused: Callable[..., Refusal], dimensions: list[str], field: str
) -> None:
    audience = segment(client, {})
    refusal = refused(lambda: insights(client, audience, *dimensions))
    assert (refusal.code, refusal.info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert refusal.fields == [field]


def test_unknown_audiences_and_limits_are_refused(client: Client, refused: Callable[..., Refusal]) -> None:
    assert refused(lambda: insights(client, "segment-none")).info.reason == "AUDIENCE_NOT_FOUND"
    assert refused(lambda: insights(client, segment(client, {}), maxBuckets=-1)).fields == ["max_buckets"]


def test_the_embedded_store_refuses(service: Service, client: Client, refused: Callable[..., Refusal]) -> None:
    if service.kind != "embedded":
        return
    refusal = refused(lambda: insights(client, segment(client, {})))
    assert (refusal.code, refusal.info.reason) == (grpc.StatusCode.UNIMPLEMENTED, "UNSUPPORTED_BY_STORE")


def test_dates_are_relative_to_the_call_time(disclosing_service: Service) -> None:
    client = disclosing_service.client("dates")
    now = datetime.now(UTC)
    timestamps = [now - timedelta(days=6, hours=23), now - timedelta(days=7, hours=1), now + timedelta(hours=1)]
    dates: list[Any] = [*timestamps, *(f"{timestamp:%Y-%m-%dT%H:%M:%S}.000Z" for timestamp in timestamps), "soon", None]
    disclosing_service.insert("dates", [{"data": {"lastEmailOpenedAt": date}} for date in dates])
    answer = insights(client, segment(client, {}), "lastOpened")
    assert counts_by_value(answer.dimensions[0]) == {
        "in the future": 2,
        "last 7 days": 2,
        "8 to 30 days ago": 2,
        "(invalid)": 1,
        "(missing)": 1,
    }
