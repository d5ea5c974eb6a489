"""$onDay and $anniversary on the real engine, compared with their meaning in plain Python."""

import random
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from audience_service.domain.filters import Filter, FilterCompiler
from audience_service.domain.filters.rebase_dates import moving_operands
from audience_service.domain.watch.time_triggers import crossings
from tests.conftest import Service
from tests.contract.test_explain_membership import explain
from tests.contract.test_next_change_times import Timeline, timeline  # noqa: F401 - a fixture
from tests.support import oracles
from tests.support.calendar_oracle import has_anniversary, is_on_day, values_at
from tests.support.oracles import oracle_size

ZONES = ("UTC", "America/New_York", "Asia/Kolkata", "Pacific/Kiritimati", "America/St_Johns", "Africa/Casablanca")
RECORD_ZONES: tuple[Any, ...] = ("$zone", {"$ifNull": ["$zone", "Pacific/Kiritimati"]}, "$missing")
OFFSETS = ("", "Z", "+00:00", "-08:00", "+0545", "+14:00", "-03:30", "+02:00")
RECORDS, FILTERS = oracle_size(250, 60)

Matches = Callable[[dict[str, Any]], bool]


def random_value(draw: random.Random) -> Any:
    near = datetime(draw.choice((1990, 1996, 2023, 2024)), 2, 27, tzinfo=UTC) + timedelta(
        minutes=draw.randint(0, 5_000)
    )
    match draw.randint(0, 5):
        case 0:
            return near
        case 1:
            return f"{near:%Y-%m-%d}"
        case 2:
            return f"{near:--%m-%d}"
        case 3:
            return draw.choice((None, 5, "x", f"{near:%m/%d/%Y}", f"{near:%Y-%m-%d}\n", {"at": near}))
    spelling = draw.choice(("%Y-%m-%dT%H:%M:%S.123", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M"))
    return f"{near.strftime(spelling)}{draw.choice(OFFSETS)}"


def random_data(draw: random.Random) -> dict[str, Any]:
    def values() -> list[Any]:
        return [random_value(draw) for _ in range(draw.randint(0, 3))]

    visits = [{"at": draw.choice((random_value(draw), values()))} for _ in range(draw.randint(0, 3))]
    return {
        "day": draw.choice((random_value(draw), random_value(draw), values())),
        "visits": draw.choice((visits, {"at": values()})),
        "zone": draw.choice((*ZONES, "Mars", None, 5, ["x", "Asia/Kolkata"])),
    }


def in_own_timezone(operand: Any, data: dict[str, Any]) -> Any:
    """The operand with the timezone that a record names, or else the default, where it has the field."""
    default = {"$zone": "UTC", "$missing": "UTC"}
    written = operand.get("timezone") if isinstance(operand, dict) else None
    if isinstance(written, dict):
        written, fallback = written["$ifNull"]
        default = {written: fallback}
    if written not in default:
        return operand
    stored = data.get(written[1:])
    names = [name for name in (stored if isinstance(stored, list) else [stored]) if name in ZONES]
    return {**operand, "timezone": names[0] if names else default[written]}


def random_filter(draw: random.Random) -> tuple[dict[str, Any], datetime, Matches]:
    """A filter, the time as of which it is evaluated, and its meaning."""
    now = datetime(draw.choice((2023, 2024)), 2, 25, tzinfo=UTC) + timedelta(minutes=draw.randint(0, 10_000))
    path = draw.choice(("day", "visits.at"))
    if draw.random() < 0.5:
        day = (date(draw.choice((1996, 2023, 2024)), 2, 27) + timedelta(days=draw.randint(0, 4))).isoformat()
        operand: Any = draw.choice((day, {"date": day, "timezone": draw.choice((*ZONES, *RECORD_ZONES))}))
        condition = {path: {"$onDay": operand}}

        def test(value: Any, data: dict[str, Any]) -> bool:
            return is_on_day(value, in_own_timezone(operand, data))
    else:
        first = draw.randint(-3, 3)
        operand = {"from": first, "to": first + draw.randint(0, 3), "leapDay": draw.choice(("02-28", "03-01"))}
        operand |= {name: draw.choice(ZONES) for name in ("timezone", "fieldTimezone") if draw.random() < 0.5}
        if draw.random() < 0.4:
            operand["timezone"] = draw.choice(RECORD_ZONES)
        condition = {path: {"$anniversary": operand}}

        def test(value: Any, data: dict[str, Any]) -> bool:
            return has_anniversary(value, in_own_timezone(operand, data), now)

    def matches(data: dict[str, Any]) -> bool:
        return any(test(value, data) for value in values_at(data, path.split(".")))

    if draw.random() < 0.3:
        return {"$nor": [condition]}, now, lambda data: not matches(data)
    return condition, now, matches


@pytest.mark.slow
@pytest.mark.timeout(oracles.TIMEOUT)
def test_random_filters_agree_with_python(real_service: Service) -> None:
    org, draw = f"calendar{next(real_service.names)}", random.Random(7)
    records = {f"r{number}": random_data(draw) for number in range(RECORDS)}
    ids = real_service.insert(org, [{"id": name, "data": data} for name, data in records.items()])
    compiler, partial = FilterCompiler(["contact"]), 0
    for where, now, matches in [random_filter(draw) for _ in range(FILTERS)]:
        population = compiler.at(now).compile(Filter("contact", where))
        found = oracles.members(real_service.store, org, population, ids)
        expected = {f"contact-{name}" for name, data in records.items() if matches(data)}
        assert found == expected, (where, now)
        partial += 0 < len(found) < RECORDS
    assert partial > FILTERS / 2, "the records must be near the days"


def test_every_rpc_agrees_on_a_birthday(real_service: Service) -> None:
    org = f"calendar{next(real_service.names)}"
    client, today = real_service.client(org), datetime.now(UTC).date()
    stored = {
        "text": f"1988-{today:%m-%d}" if f"{today:%m-%d}" != "02-29" else "1988-02-29",
        "yearless": f"--{today:%m-%d}",
        "later": f"--{today + timedelta(days=40):%m-%d}",
        "number": 5,
    }
    real_service.insert(org, [{"id": name, "data": {"birthday": value}} for name, value in stored.items()])
    where = {"birthday": {"$anniversary": {"from": -1, "to": 1}}}
    written = {"datatype": "contact", "where": where}
    assert client.members(filter=written) == ["contact-text", "contact-yearless"]
    assert client.count(filter=written) == 2
    segment = client.create(name="birthdays", filter=written)
    assert MessageToDict(segment.filter)["where"] == where
    request = {"contactIds": [f"contact-{name}" for name in stored], "audienceIds": [segment.id]}
    checked = client.call("CheckMembership", request)
    assert sum(len(found.audience_ids) for found in checked.memberships) == 2
    answer = explain(client, "contact-text", where)
    [condition, _] = answer.condition.conditions
    assert (answer.member, condition.value.string_value) == (True, stored["text"])
    assert condition.description == "birthday has its anniversary from 1 day ago to 1 day from now"
    assert [warning.reason for warning in segment.warnings] == ["MIXED_TYPES"]


def test_an_anniversary_changes_at_the_midnights_of_its_timezone(timeline: Timeline) -> None:  # noqa: F811
    """The 29th of February has it on the last day of each February."""
    now = datetime.now(UTC)

    def next_of(edges: Iterable[datetime]) -> datetime:
        return min(edge for edge in edges if edge > now)

    years, kolkata = (now.year, now.year + 1), timezone(timedelta(hours=5, minutes=30))
    window = {"birthday": {"$anniversary": {"from": 0, "to": 7, "timezone": "Asia/Kolkata"}}}
    edges = [datetime(year, 6, day, tzinfo=kolkata) for year in years for day in (8, 16)]
    assert timeline.next_change(window, {"birthday": "--06-15"}) == next_of(edges)
    leap = {"birthday": {"$anniversary": {"from": 0, "to": 0}}}
    ends = [datetime(year, 3, 1, tzinfo=UTC) for year in years]
    found = timeline.next_change(leap, {"birthday": datetime(1992, 2, 29, tzinfo=UTC)})
    assert found == next_of([*ends, *(end - timedelta(days=1) for end in ends)])
    assert timeline.next_change(leap, {"birthday": "soon"}) is None


@pytest.mark.parametrize(
    "where",
    [
        {"day": {"$anniversary": {"from": 0, "to": 0, "timezone": "$zone"}}},
        {"day": {"$onDay": {"date": {"$dateAdd": {"startDate": "$$NOW", "unit": "day", "amount": 0}},
                            "timezone": "$zone"}}},
    ],
)  # fmt: skip
def test_a_day_begins_at_the_midnight_of_the_record(timeline: Timeline, where: dict[str, Any]) -> None:  # noqa: F811
    """For a watch as well: the midnights of all timezones are among those at which it looks for changes."""
    tomorrow = datetime.now(UTC).date() + timedelta(days=2)
    midnight = datetime.combine(tomorrow, time(), UTC) - timedelta(hours=5, minutes=30)
    found = timeline.next_change(where, {"day": f"{tomorrow}", "zone": "Asia/Kolkata"})
    assert found == midnight
    now = datetime.now(UTC).replace(microsecond=0)
    population = FilterCompiler(["contact"]).at(now).compile(Filter("contact", where))
    [(_, operand)] = moving_operands(population.node)
    assert midnight in operand.boundaries(now, now + timedelta(days=3))
    crossing = crossings(population, midnight - timedelta(milliseconds=1), midnight)
    in_org = {"sk": {"$gte": f"{timeline.org}/", "$lt": f"{timeline.org}0"}}
    stored = timeline.service.store.database["contact"].find({"$and": [in_org, crossing[0].match]})
    assert [record["data"]["day"] for record in stored] == [f"{tomorrow}"]


def test_a_day_in_all_timezones_has_one_range_for_an_index() -> None:
    """The days around it, as dates and as text, next to the alternatives by timezone."""
    today = {"$dateAdd": {"startDate": "$$NOW", "unit": "day", "amount": 0}}
    where = {"day": {"$onDay": {"date": today, "timezone": "$zone"}}}
    compiled = FilterCompiler(["contact"]).at(datetime(2026, 11, 30, tzinfo=UTC)).compile(Filter("contact", where))
    ranges = compiled.match["$and"][0]["$and"][0]["$or"]
    assert [list(each) for each in ranges] == [["data.day"]] * 2
    first, last = datetime(2026, 11, 26, tzinfo=UTC), datetime(2026, 12, 4, tzinfo=UTC)
    assert ranges[0]["data.day"] == {"$gte": first, "$lte": last}
    assert ranges[1]["data.day"] == {"$gte": "2026-11-26", "$lte": "2026-12-04~"}


def test_an_explanation_shows_the_day_in_the_timezone_of_the_record(real_service: Service) -> None:
    org = f"calendar{next(real_service.names)}"
    [contact, _] = real_service.insert(org, [{"data": {"zone": "Asia/Kolkata"}}, {"data": {"zone": "Mars"}}])
    where = {"day": {"$anniversary": {"from": 0, "to": 7, "timezone": "$zone"}}}
    [condition, _] = explain(real_service.client(org), contact, where).condition.conditions
    assert condition.description == "day has its anniversary from today to 7 days from now (Asia/Kolkata)"
    made = real_service.client(org).create(name="birthdays", filter={"datatype": "contact", "where": where})
    assert {warning.reason for warning in made.warnings} >= {"UNKNOWN_TIMEZONE"}
