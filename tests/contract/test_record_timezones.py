"""Relative dates in the timezone that each record names, on every store, compared with plain Python."""

import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import pytest
from google.protobuf.json_format import MessageToDict

from audience_service.domain.filters import Filter, FilterCompiler
from tests.conftest import Service
from tests.contract.test_explain_membership import explain, walk
from tests.contract.test_next_change_times import Timeline, timeline  # noqa: F401 - a fixture
from tests.support import oracles
from tests.support.oracles import oracle_size
from tests.support.waiting import wait_past_midnight
from tests.support.watch_harness import NOON, WatchHarness

RECORDS, FILTERS = oracle_size(250, 60)
ZONES = ("America/New_York", "Asia/Kolkata", "Pacific/Kiritimati", "America/St_Johns", "Pacific/Pago_Pago", "+05:45")
KNOWN_ZONES = available_timezones()
ODD_ZONES: tuple[Any, ...] = (
    "Europe/Atlantis",
    "america/new_york",
    "",
    None,
    5,
    {"name": "UTC"},
    [],
    ["x"],
    "EST5EDT",
    "-0930",
)

Matches = Callable[[dict[str, Any]], bool]


def today(unit: str = "day", zone: Any = "$timezone") -> dict[str, Any]:
    return {"$dateTrunc": {"date": "$$NOW", "unit": unit, "timezone": zone}}


def zone_of(name: Any) -> ZoneInfo | timezone | None:
    """The timezone of a stored name, None if there is none."""
    if isinstance(name, str) and name in KNOWN_ZONES:
        return ZoneInfo(name)
    offsets = {"+05:45": timedelta(hours=5, minutes=45), "-0930": -timedelta(hours=9, minutes=30)}
    return timezone(offsets[name]) if isinstance(name, str) and name in offsets else None


def zones_of(stored: Any, default: str) -> list[ZoneInfo | timezone]:
    names = stored if isinstance(stored, list) else [stored]
    return [zone for name in names if (zone := zone_of(name))] or [ZoneInfo(default)]


def local_start(now: datetime, zone: ZoneInfo | timezone, unit: str, days: int) -> datetime:
    """The start of the local day, hour or month, some days later."""
    local = now.astimezone(zone).replace(tzinfo=None) + timedelta(days=days)
    hour = local.hour if unit == "hour" else 0
    return local.replace(
        day=1 if unit == "month" else local.day, hour=hour, minute=0, second=0, microsecond=0, tzinfo=zone
    )


def instants(value: Any) -> Iterator[datetime]:
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, datetime):
            yield item
        elif isinstance(item, str) and item[:2] == "20":
            yield datetime.fromisoformat(item)


COMPARE: dict[str, Callable[[datetime, datetime], bool]] = {
    "$gt": lambda value, bound: value > bound,
    "$gte": lambda value, bound: value >= bound,
    "$lt": lambda value, bound: value < bound,
    "$lte": lambda value, bound: value <= bound,
    "$eq": lambda value, bound: value == bound,
}


def random_data(draw: random.Random) -> dict[str, Any]:
    def value() -> Any:
        near = datetime(2026, 11, 28, tzinfo=UTC) + timedelta(minutes=15 * draw.randint(0, 400))
        return draw.choice((near, f"{near:%Y-%m-%dT%H:%M:%S.000Z}", f"{near:%Y-%m-%dT%H:%M:%SZ}", "x", None))

    data: dict[str, Any] = {"at": draw.choice((value(), value(), [value(), value()]))}
    if draw.random() < 0.9:
        zones = (draw.choice(ZONES), draw.choice(ZONES), draw.choice(ODD_ZONES), draw.sample(ZONES, 2))
        data["timezone"] = draw.choice(zones)
    return {**data, "visits": [{"at": value(), "n": draw.randint(0, 1)} for _ in range(draw.randint(0, 2))]}


def random_filter(draw: random.Random) -> tuple[dict[str, Any], datetime, Matches]:
    """A filter, the time as of which it is evaluated, and its meaning."""
    now = datetime(2026, 11, 30, tzinfo=UTC) + timedelta(minutes=draw.randint(0, 2_000))
    unit, days, name = draw.choice(("day", "day", "hour", "month")), draw.randint(-2, 1), draw.choice(list(COMPARE))
    default = draw.choice(("UTC", "Asia/Kolkata"))
    written = "$timezone" if default == "UTC" else {"$ifNull": ["$timezone", default]}
    shifted = {"$dateAdd": {"startDate": "$$NOW", "unit": "day", "amount": days, "timezone": written}}
    date = {"$dateTrunc": {"date": shifted, "unit": unit, "timezone": written}}

    def holds(value: Any, stored: Any, compare: Callable[[datetime, datetime], bool]) -> bool:
        bounds = [local_start(now, zone, unit, days) for zone in zones_of(stored, default)]
        return any(compare(found, bound) for found in instants(value) for bound in bounds)

    def simple(data: dict[str, Any]) -> bool:
        return holds(data["at"], data.get("timezone"), COMPARE[name])

    def in_visits(data: dict[str, Any]) -> bool:
        visits = [visit for visit in data["visits"] if visit["n"] != 0]
        return any(holds(visit["at"], data.get("timezone"), COMPARE[name]) for visit in visits)

    match draw.randint(0, 5):
        case 0:
            return {"visits": {"$elemMatch": {"at": {name: date}, "n": {"$gt": 0}}}}, now, in_visits
        case 1:
            return {"at": {"$not": {name: date}}}, now, lambda data: not simple(data)
        case 2:
            return {"$nor": [{"at": {name: date}}]}, now, lambda data: not simple(data)
        case 3:
            operator = draw.choice(("$ne", "$nin"))
            operand = date if operator == "$ne" else [date]
            return (
                {"at": {operator: operand}},
                now,
                lambda data: not holds(data["at"], data.get("timezone"), COMPARE["$eq"]),
            )
    return {"at": {name: date}}, now, simple


@pytest.mark.slow
@pytest.mark.timeout(oracles.TIMEOUT)
def test_random_filters_agree_with_python(service: Service) -> None:
    org, draw = f"zones{next(service.names)}", random.Random(11)
    is_fast = service.kind != "embedded"
    records = {f"r{number}": random_data(draw) for number in range(RECORDS if is_fast else 40)}
    ids = service.insert(org, [{"id": name, "data": data} for name, data in records.items()])
    filters = [random_filter(draw) for _ in range(FILTERS if is_fast else 15)]
    compiler, partial = FilterCompiler(["contact"]), 0
    for where, now, matches in filters:
        if not is_fast and "visits" in where:
            continue  # refused, as every $elemMatch
        population = compiler.at(now).compile(Filter("contact", where))
        found = oracles.members(service.store, org, population, ids)
        expected = {f"contact-{name}" for name, data in records.items() if matches(data)}
        assert found == expected, (where, now)
        partial += 0 < len(found) < len(records)
    assert partial > len(filters) / 3, "the records must be near the dates"


def test_every_rpc_agrees_in_the_timezones_of_records(service: Service, org: str) -> None:
    wait_past_midnight(0, 14, -11)
    client, now = service.client(org), datetime.now(UTC)
    # The day of Kiritimati began 14 hours before that of UTC, and that of Pago Pago 11 hours after it.
    zones: dict[str, Any] = {
        "ahead": "Pacific/Kiritimati",
        "behind": "Pacific/Pago_Pago",
        "none": None,
        "unknown": "Mars/Base",
    }
    starts = {name: local_start(now, ZoneInfo(zone) if name in ("ahead", "behind") else ZoneInfo("UTC"), "day", 0)
              for name, zone in zones.items()}  # fmt: skip
    records = [
        {"id": f"{name}-{spot}", "data": {"at": starts[name].astimezone(UTC) + shift, "timezone": zone}}
        for name, zone in zones.items()
        for spot, shift in (("in", timedelta()), ("out", timedelta(milliseconds=-1)))
    ]
    ids = service.insert(org, records)
    where = {"at": {"$gte": today()}}
    written, expected = {"datatype": "contact", "where": where}, sorted(f"contact-{name}-in" for name in zones)
    assert client.members(filter=written) == expected
    segment = client.create(name="today", filter=written)
    assert MessageToDict(segment.filter)["where"] == where
    assert client.count(audienceId=segment.id) == len(zones)
    checked = client.call("CheckMembership", {"contactIds": ids, "audienceIds": [segment.id]})
    assert sorted(found.contact_id for found in checked.memberships if found.audience_ids) == expected
    [warning] = [found for found in segment.warnings if found.reason == "UNKNOWN_TIMEZONE"]
    assert (warning.field_path, warning.description) == (
        "filter.where.at.$gte",
        "takes UTC for 4 records whose timezone is missing or not a timezone",
    )
    answer = explain(client, "contact-behind-in", where)
    [condition] = [found for found in walk(answer.condition) if found.field_path.endswith(".at.$gte")]
    assert (answer.member, condition.matched) == (True, True)
    assert condition.description == "at is at or after the start of today (Pacific/Pago_Pago)"
    assert answer.next_change_time.ToDatetime(UTC) == starts["behind"] + timedelta(days=1)


def test_a_change_is_forecast_in_the_timezone_of_the_record(timeline: Timeline) -> None:  # noqa: F811
    zone = ZoneInfo("Asia/Kolkata")
    day = (datetime.now(zone) + timedelta(days=3)).replace(hour=9, minute=0, second=0, microsecond=0)
    data = {"at": day.astimezone(UTC), "zones": ["Mars/Base", "Asia/Kolkata"]}
    found = timeline.next_change({"at": {"$gte": today(zone="$zones")}}, data)
    assert found == (day + timedelta(days=1)).replace(hour=0)
    data = {"at": day.astimezone(UTC), "zones": "Mars/Base"}
    later = {"at": {"$lt": today(zone={"$ifNull": ["$zones", "Asia/Kolkata"]})}}
    assert timeline.next_change(later, data) == (day + timedelta(days=1)).replace(hour=0)


def test_a_watch_wakes_at_the_midnights_of_records(real_service: Service) -> None:
    org = f"zoned{next(real_service.names)}"
    # At NOON in UTC it is 17:30 in Kolkata. 250 others have their date in the same hours, but no midnight is near.
    others = [{"id": f"o{number}", "data": {"at": NOON, "timezone": "Europe/Paris"}} for number in range(250)]
    real_service.insert(org, [{"id": "a", "data": {"at": NOON, "timezone": "Asia/Kolkata"}}, *others])
    audience = WatchHarness(real_service, org, {"at": {"$gte": today()}})
    result = audience.reconcile()
    midnight = NOON.replace(hour=18, minute=30)
    seen = [result.next_trigger]
    while result.next_trigger and result.next_trigger < midnight and len(seen) < 20:
        result = audience.reconcile(result.next_trigger)
        seen.append(result.next_trigger)
    assert midnight in seen, seen
    audience.reconcile(midnight)
    assert audience.events() == [("exited", "contact-a")]
    assert audience.causes() == ["time"]


def test_a_filter_of_many_timezones_compiles_quickly() -> None:
    """The median of ten is about 4 ms; the limit leaves room for busy machines."""
    compiler, times = FilterCompiler(["contact"]), []
    for _ in range(10):
        started = time.thread_time()
        compiled = compiler.compile(Filter("contact", {"at": {"$gte": today()}}))
        times.append(time.thread_time() - started)
    assert sorted(times)[5] < 0.03, times
    assert str(compiled.match).count("'$in'") > 30, "one for each value of the date"
