"""The clock of a watched audience, on every store: when time alone moves anybody, and whom."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from audience_service.domain.watch.model import ChangedKeys, ScanScope
from tests.conftest import Service
from tests.support.fault_injection import FailAtStep
from tests.support.watch_harness import NOON, OPENED_RECENTLY, TrackAudience, WatchHarness

pytestmark = pytest.mark.usefixtures("unwatched")


def opened(timestamp: datetime) -> dict[str, Any]:
    """The payload of a contact that opened a mail at a timestamp, as the platform writes it."""
    return {"data": {"lastOpened": timestamp.isoformat(timespec="milliseconds").replace("+00:00", "Z")}}


def test_the_result_contains_the_next_time_trigger(service: Service, org: str, track_audience: TrackAudience) -> None:
    month = timedelta(days=30)
    service.insert(org, [{"id": "late", **opened(NOON - month + timedelta(hours=3))}])
    service.insert(org, [{"id": "soon", "data": {"lastOpened": NOON - month + timedelta(seconds=90.5)}}])
    service.insert(org, [{"id": "out", **opened(NOON - month - timedelta(seconds=1))}])
    audience = track_audience(OPENED_RECENTLY)
    result = audience.reconcile()
    triggers = [result.next_trigger]
    for _ in range(2):
        assert result.next_trigger
        result = audience.reconcile(result.next_trigger, ScanScope(last_result=result))
        triggers.append(result.next_trigger)
    millisecond = timedelta(milliseconds=1)
    soon, late = NOON + timedelta(seconds=90.5), NOON + timedelta(hours=3)
    assert triggers == [soon, soon + millisecond, late]
    assert audience.events() == [("exited", "contact-soon")]


@pytest.mark.parametrize(
    "where",
    [
        {"$nor": [OPENED_RECENTLY]},
        {"visits": {"$elemMatch": {"at": OPENED_RECENTLY["lastOpened"]}}},
        {"opens": {"$elemMatch": OPENED_RECENTLY["lastOpened"]}},
        {"opens.0": OPENED_RECENTLY["lastOpened"]},
        {"score": 1, "$or": [{"plan": "paid"}, OPENED_RECENTLY]},
    ],
)
def test_a_time_trigger_scans_only_crossing_records(real_service: Service, where: dict[str, Any]) -> None:
    org = f"clockwork{next(real_service.names)}"
    then = NOON - timedelta(days=30) + timedelta(minutes=1)
    aging = {"lastOpened": then, "score": 1, "visits": [{"at": then}], "opens": [then]}
    real_service.insert(org, [{"id": "aging", "data": aging}, {"id": "other"}])
    audience = WatchHarness(real_service, org, where)
    result = audience.reconcile()
    assert result.next_trigger == NOON + timedelta(minutes=1)
    later = NOON + timedelta(minutes=2)
    # A contact that only a full scan would find.
    real_service.insert(org, [{"id": "new", "data": {**aging, "lastOpened": NOON, "opens": [NOON]}}])
    event_log = FailAtStep(real_service.store.event_log, "diff", before=lambda: pytest.fail("everything is compared"))
    audience.reconcile(later, ScanScope(last_result=result), event_log=event_log)
    assert [pk for _, pk in audience.events()] == ["contact-aging"]
    assert audience.causes() == ["time"]
    assert audience.watch().watermark == NOON


def test_the_time_cause_requires_unchanged_data(service: Service, org: str, track_audience: TrackAudience) -> None:
    month = timedelta(days=30)
    service.insert(org, [{"id": "a", **opened(NOON - month)}, {"id": "b", **opened(NOON)}])
    audience = track_audience(OPENED_RECENTLY)
    audience.reconcile()
    audience.update("b", **opened(NOON - month - timedelta(hours=1)))
    service.insert(org, [{"id": "c", **opened(NOON)}])
    audience.reconcile(NOON + timedelta(minutes=1))
    assert audience.events() == [("exited", "contact-a"), ("exited", "contact-b"), ("entered", "contact-c")]
    assert audience.causes() == ["time", "data", "data"]


def test_dense_crossings_limit_the_lookahead_to_a_second(real_service: Service) -> None:
    org = f"dense{next(real_service.names)}"
    first = NOON - timedelta(days=30)
    contacts = [{"data": {"lastOpened": first + timedelta(milliseconds=number)}} for number in range(900)]
    real_service.insert(org, contacts)
    result = WatchHarness(real_service, org, OPENED_RECENTLY).reconcile()
    assert result.next_trigger == NOON + timedelta(seconds=1)


def test_expressions_over_now_have_unpredictable_time(real_service: Service) -> None:
    org = f"unforeseen{next(real_service.names)}"
    where = {"$expr": {"$gt": ["$data.renewsAt", "$$NOW"]}}
    assert WatchHarness(real_service, org, where).reconcile().time_unpredictable
    assert not WatchHarness(real_service, f"{org}2", OPENED_RECENTLY).reconcile().time_unpredictable


def test_only_changed_records_can_advance_the_next_trigger(
    service: Service, org: str, track_audience: TrackAudience
) -> None:
    month = timedelta(days=30)
    service.insert(org, [{"id": "a", **opened(NOON - month + timedelta(hours=2))}])
    audience = track_audience(OPENED_RECENTLY)
    result = audience.reconcile()
    service.insert(org, [{"id": key, **opened(NOON - month + timedelta(hours=1))} for key in "bc"])
    later = NOON + timedelta(minutes=1)
    nothing = FailAtStep(
        service.store.event_log, "find_dated", before=lambda: pytest.fail("the dates of all are asked for")
    )
    assert audience.reconcile(later, ScanScope(last_result=result), event_log=nothing).next_trigger == NOON + timedelta(
        hours=2
    )
    changed = ChangedKeys(frozenset((f"{org}/contact/b",)), is_complete=True)
    assert audience.reconcile(later, ScanScope(changed, result)).next_trigger == NOON + timedelta(hours=1)
    audience.update("b", **opened(NOON - month + timedelta(hours=3)))
    knowing = replace(result, last_seq=1)  # that b has entered
    assert audience.reconcile(later, ScanScope(changed, knowing)).next_trigger == NOON + timedelta(hours=2)


def test_a_changed_record_with_a_time_crossing_exits_once(
    service: Service, org: str, track_audience: TrackAudience
) -> None:
    service.insert(org, [{"id": key, **opened(NOON - timedelta(days=30, seconds=-30))} for key in "ab"])
    audience = track_audience(OPENED_RECENTLY)
    result = audience.reconcile()
    audience.update("a", **{"data.score": 1})
    changed = ChangedKeys(frozenset((f"{org}/contact/a",)), is_complete=True)
    audience.reconcile(NOON + timedelta(minutes=1), ScanScope(changed, result))
    assert audience.events() == [("exited", "contact-a"), ("exited", "contact-b")]


def test_a_calendar_day_changes_members_at_the_exact_midnight(real_service: Service) -> None:
    """However many records enter, the trigger is the midnight of the timezone, and the scan reads only their days."""
    org = f"days{next(real_service.names)}"
    midnight = datetime(NOON.year, NOON.month, NOON.day, tzinfo=UTC) + timedelta(hours=15)  # of the next day in Tokyo
    day = (NOON + timedelta(days=1)).date().isoformat()
    stored = [day, f"{day}T10:00:00+09:00", midnight, midnight - timedelta(milliseconds=1)]
    real_service.insert(org, [{"id": f"c{number}", "data": {"due": due}} for number, due in enumerate(stored)])
    today = {"date": {"$dateAdd": {"startDate": "$$NOW", "unit": "day", "amount": 0}}, "timezone": "Asia/Tokyo"}
    audience = WatchHarness(real_service, org, {"due": {"$onDay": today}})
    result = audience.reconcile()
    assert (result.next_trigger, result.time_unpredictable) == (midnight, False)
    result = audience.reconcile(midnight, ScanScope(last_result=result))
    entered = [("entered", f"contact-c{number}") for number in range(3)]
    assert sorted(audience.events()) == sorted([*entered, ("exited", "contact-c3")])
    assert set(audience.causes()) == {"time"}
    assert result.next_trigger == midnight + timedelta(days=1)


def test_an_anniversary_changes_members_at_the_exact_midnight(real_service: Service) -> None:
    org = f"birthdays{next(real_service.names)}"
    midnight = datetime(2026, 3, 2, 5, tzinfo=UTC)  # in New York
    stored = {"out": "1990-03-01", "in": "--03-03", "leap": datetime(1992, 2, 29, tzinfo=UTC), "later": "1990-03-09"}
    real_service.insert(org, [{"id": name, "data": {"birthday": value}} for name, value in stored.items()])
    days = {"from": 0, "to": 1, "timezone": "America/New_York", "leapDay": "03-01"}
    audience = WatchHarness(real_service, org, {"birthday": {"$anniversary": days}})
    result = audience.reconcile()
    assert (result.next_trigger, result.time_unpredictable) == (midnight, False)
    result = audience.reconcile(midnight, ScanScope(last_result=result))
    assert sorted(audience.events()) == [
        ("entered", "contact-in"),
        ("exited", "contact-leap"),
        ("exited", "contact-out"),
    ]
    assert set(audience.causes()) == {"time"}
    assert result.next_trigger == midnight + timedelta(days=1)


def test_a_sequence_without_a_second_step_enters_at_the_exact_millisecond(real_service: Service) -> None:
    """A window ends one millisecond after its last instant; the scan then reads only the contacts of ended windows."""
    org = f"sequence{next(real_service.names)}"
    real_service.insert(org, [{"id": name} for name in ("soon", "late", "bought", "own")])
    carts = {
        "soon": timedelta(days=7, seconds=-90),
        "late": timedelta(days=6),
        "bought": timedelta(days=7, seconds=-30),
    }
    orders: list[dict[str, Any]] = [
        {"id": name, "data": {"contactId": f"contact-{name}", "type": "cart", "at": NOON - age}}
        for name, age in carts.items()
    ]
    paid = opened(NOON - timedelta(days=1))["data"]["lastOpened"]
    orders.append({"data": {"contactId": "contact-bought", "type": "paid", "at": paid}})
    real_service.insert(org, orders, "order")
    then = {"where": {"type": "paid"}, "within": {"amount": 7, "unit": "day"}, "count": 0}
    relation = {"datatype": "order", "on": {"local": "pk", "foreign": "contactId"}, "where": {"type": "cart"}}
    audience = WatchHarness(real_service, org, {"$related": {**relation, "at": "at", "then": then}})
    result = audience.reconcile()
    millisecond = timedelta(milliseconds=1)
    soon = NOON + timedelta(seconds=90)
    ends = [NOON + timedelta(seconds=30) + millisecond, soon + millisecond]
    event_log = FailAtStep(real_service.store.event_log, "diff", before=lambda: pytest.fail("everything is compared"))
    assert result.next_trigger == ends[0]
    result = audience.reconcile(ends[0], ScanScope(last_result=result), event_log=event_log)
    assert (audience.events(), result.next_trigger) == ([], ends[1])
    early = audience.reconcile(soon, ScanScope(last_result=result), event_log=event_log)
    assert (audience.events(), early.next_trigger) == ([], ends[1])
    audience.reconcile(ends[1], ScanScope(last_result=early), event_log=event_log)
    assert (audience.events(), audience.causes()) == ([("entered", "contact-soon")], ["time"])
