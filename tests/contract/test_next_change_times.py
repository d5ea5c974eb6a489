"""The next change times of ExplainMembership, as the real engine evaluates them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, timezone
from typing import Any

import pytest

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import InvalidFilter
from audience_service.domain.filters import Filter, FilterCompiler
from tests.conftest import Service
from tests.contract.test_explain_membership import contacts, explain, walk
from tests.support.waiting import wait_past_midnight

MILLISECOND = timedelta(milliseconds=1)


def ago(amount: int, unit: str = "day", **more: Any) -> dict[str, Any]:
    return {"$dateSubtract": {"startDate": "$$NOW", "unit": unit, "amount": amount, **more}}


def truncated(date: Any, unit: str, **more: Any) -> dict[str, Any]:
    return {"$dateTrunc": {"date": date, "unit": unit, **more}}


def from_now(**length: int) -> datetime:
    timestamp = datetime.now(UTC) + timedelta(**length)
    return timestamp.replace(microsecond=timestamp.microsecond // 1000 * 1000)


def text(timestamp: datetime) -> str:
    return timestamp.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass
class Timeline:
    """One record, and how the database evaluates filters on it at any timestamp."""

    service: Service
    org: str

    def membership_at(self, where: dict[str, Any], timestamps: Sequence[datetime], contact_id: str) -> list[bool]:
        """Whether the record matches at each timestamp."""
        compiler = FilterCompiler(["contact"])
        populations = [compiler.at(timestamp).compile(Filter("contact", where)) for timestamp in timestamps]
        deadline = Deadline.after(20)
        results = self.service.store.checks.evaluate(self.org, "contact", populations, [contact_id], (), deadline)
        members = [found for found in results.members if not isinstance(found, InvalidFilter)]
        assert len(members) == len(timestamps)
        return [contact_id in found for found in members]

    def next_change(self, where: dict[str, Any], data: dict[str, Any]) -> datetime | None:
        """When the filter's result changes; the database agrees right before that time and at it."""
        [contact_id] = self.service.insert(self.org, [{"data": data}])
        answer = explain(self.service.client(self.org), contact_id, where)
        read_at = answer.read_time.ToDatetime(UTC)
        has_change = answer.HasField("next_change_time")
        end = answer.next_change_time.ToDatetime(UTC) if has_change else read_at + timedelta(days=3_653)
        between = [read_at + (end - read_at) * part / 40 for part in range(40)]
        assert self.membership_at(where, [*between, end - MILLISECOND], contact_id) == [answer.member] * 41
        if has_change:
            assert self.membership_at(where, [end], contact_id) == [not answer.member]
        return end if has_change else None


@pytest.fixture
def timeline(real_service: Service) -> Timeline:
    return Timeline(real_service, f"time{next(real_service.names)}")


@pytest.mark.parametrize("spelt", [lambda timestamp: timestamp, text])
def test_a_window_ends_one_millisecond_after_its_last_instant(
    timeline: Timeline, spelt: Callable[[datetime], Any]
) -> None:
    opened = from_now(days=-5)
    data = {"at": spelt(opened), "n": 1}
    month = timedelta(days=30)
    assert timeline.next_change({"at": {"$gte": ago(30)}}, data) == opened + month + MILLISECOND
    assert timeline.next_change({"at": {"$gt": ago(30)}}, data) == opened + month
    assert timeline.next_change({"at": {"$lt": ago(30)}}, data) == opened + month + MILLISECOND
    assert timeline.next_change({"at": {"$lte": ago(30)}}, data) == opened + month
    assert timeline.next_change({"at": {"$not": {"$gte": ago(30)}}}, data) == opened + month + MILLISECOND
    assert timeline.next_change({"at": {"$gte": ago(30)}, "n": 2}, data) is None
    assert timeline.next_change({"$or": [{"at": {"$gte": ago(30)}}, {"n": 1}]}, data) is None
    assert timeline.next_change({"at": {"$gte": ago(4)}}, data) is None
    assert timeline.next_change({"at": {"$in": [ago(30)]}}, data) == opened + month
    assert timeline.next_change({"at": {"$gte": ago(30)}}, {"at": 5}) is None


def test_a_window_of_days_ends_at_midnight_in_the_filters_time_zone(timeline: Timeline) -> None:
    opened = from_now(days=-5)
    midnight = opened.replace(hour=0, minute=0, second=0, microsecond=0)
    past = [opened.replace(hour=12, minute=0, second=0, microsecond=0)]
    assert timeline.next_change({"at": {"$gte": truncated(ago(30), "day")}}, {"at": past}) == midnight + timedelta(
        days=31
    )
    kolkata = {"$gte": truncated(ago(30), "day", timezone="Asia/Kolkata")}
    later = timedelta(days=31) - timedelta(hours=5, minutes=30)
    assert timeline.next_change({"at": kolkata}, {"at": past}) == midnight + later


def test_month_windows_change_at_clamped_month_ends(timeline: Timeline) -> None:
    year = datetime.now(UTC).year + 1
    # A month before the 29th to 31st of March is the 28th of February, or the 29th: back into the window at midnight.
    last = datetime(year, 3, 1, tzinfo=UTC) - timedelta(days=1)
    at = last + timedelta(hours=18)
    ahead = {"at": {"$gte": ago(1, "month")}}
    assert timeline.next_change(ahead, {"at": at}) == at.replace(month=3) + MILLISECOND
    window = {"at": {"$gte": ago(1, "month"), "$lte": truncated({"$dateAdd": {
        "startDate": "$$NOW", "unit": "month", "amount": 6}}, "month")}}  # fmt: skip
    assert timeline.next_change(window, {"at": at}) is not None


def test_each_date_can_change_membership_and_some_cancel_out(timeline: Timeline) -> None:
    old, new = from_now(days=-20), from_now(days=-2)
    data = {"opens": [old, {"at": new}, text(new)], "visits": [{"at": old, "n": 1}, {"at": new, "n": 2}]}
    end = timedelta(days=30)
    assert timeline.next_change({"opens": {"$gte": ago(30)}}, data) == new + end + MILLISECOND
    assert timeline.next_change({"opens": {"$lt": ago(30)}}, data) == old + end + MILLISECOND
    one = {"visits": {"$elemMatch": {"n": 1, "at": {"$gte": ago(30)}}}}
    assert timeline.next_change(one, data) == old + end + MILLISECOND
    assert timeline.next_change({"opens.0": {"$gte": ago(30)}}, data) == old + end + MILLISECOND
    assert timeline.next_change({"opens.0": {"$gte": ago(30)}}, {"opens": [5, {"0": new}]}) == new + end + MILLISECOND
    assert timeline.next_change({"visits.1.at": {"$gte": ago(30)}}, data) == new + end + MILLISECOND
    exactly = {"$nor": [{"visits.at": {"$lt": ago(30)}}, {"visits.at": {"$gte": ago(19)}}]}
    assert timeline.next_change(exactly, data) is None
    assert timeline.next_change({"opens": {"$elemMatch": {"$gte": ago(30), "$lt": ago(10)}}}, data) is not None


def test_text_of_an_impossible_day_changes_at_its_sort_position(timeline: Timeline) -> None:
    year = datetime.now(UTC).year + 1
    soon = {"at": {"$lte": {"$dateAdd": {"startDate": "$$NOW", "unit": "day", "amount": 1}}}}
    march, new_year = datetime(year, 3, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
    day = timedelta(days=1)
    assert timeline.next_change(soon, {"at": f"{year}-02-30"}) == march - day
    assert timeline.next_change(soon, {"at": [f"{year}-12-31T23:59:60Z"]}) == new_year - day
    assert timeline.next_change(soon, {"at": f"{year}-03-01T00:00:00.0010000000Z"}) == march + MILLISECOND - day
    assert timeline.next_change(soon, {"at": "0000-00-00"}) is None


def test_future_members_have_a_next_change_time(timeline: Timeline) -> None:
    due = from_now(days=400)
    soon = {"$lte": {"$dateAdd": {"startDate": "$$NOW", "unit": "week", "amount": 1}}}
    assert timeline.next_change({"renewal": soon}, {"renewal": due}) == due - timedelta(days=7)
    far = from_now(days=5_000)
    assert timeline.next_change({"renewal": soon}, {"renewal": far}) is None
    both = {"renewal": {**soon, "$gte": ago(0)}}
    assert timeline.next_change(both, {"renewal": due}) == due - timedelta(days=7)


def test_a_failed_evaluation_is_no_membership_change(timeline: Timeline) -> None:
    year = datetime.now(UTC).year + 3
    last_days = datetime(9999, 12, 25, tzinfo=UTC)
    soon = {"$lte": {"$dateAdd": {"startDate": "$$NOW", "unit": "year", "amount": 9999 - year}}}  # until the year ends
    assert timeline.next_change({"at": soon}, {"at": last_days}) == last_days.replace(year=year)
    due = from_now(days=2_000)  # when the other date has left the calendar
    client = timeline.service.client(timeline.org)
    [bob] = timeline.service.insert(timeline.org, [{"data": {"at": last_days.replace(year=9_000), "due": due}}])
    answer = explain(client, bob, {"at": soon, "due": {"$lte": ago(0)}})
    assert (answer.member, answer.HasField("next_change_time")) == (False, False)
    assert answer.condition.conditions[1].next_change_time.ToDatetime(UTC) == due
    fails_later = {"$nor": [{"at": {"$gte": ago(30)}}, {"$expr": {"$eq": [{"$divide": ["$n", 2]}, 2]}}]}
    [ann] = timeline.service.insert(timeline.org, [{"data": {"at": from_now(days=-5), "n": "four"}}])
    answer = explain(client, ann, fails_later)
    assert (answer.member, answer.HasField("next_change_time"), answer.next_change_unknown) == (False, False, False)


def test_each_condition_has_its_own_next_change_time(timeline: Timeline) -> None:
    client, opened = timeline.service.client(timeline.org), from_now(days=-5)
    [ann] = timeline.service.insert(timeline.org, [{"data": {"at": opened, "n": 1}}])
    inner = client.create(name="recent", filter=contacts({"at": {"$gte": ago(30)}})).id
    where = {"$or": [{"$inAudience": inner}, {"at": {"$gte": ago(60)}}], "n": {"$gte": 1}}
    received = {c.description: c for c in walk(explain(client, ann, where).condition)}
    next_changes = {
        description: c.next_change_time.ToDatetime(UTC) - opened
        for description, c in received.items()
        if c.HasField("next_change_time")
    }
    short, long = timedelta(days=30) + MILLISECOND, timedelta(days=60) + MILLISECOND
    either = "is in the audience 'recent' or at is in the last 60 days or later"
    assert next_changes == {
        "is in the audience 'recent'": short,
        "at is in the last 30 days or later": short,
        "at is in the last 60 days or later": long,
        either: long,
        f"({either}) and n is at least 1 and state is none of archived, deleted": long,
    }


def test_a_filter_with_now_in_an_expression_has_an_unknown_change_time(timeline: Timeline) -> None:
    client, opened = timeline.service.client(timeline.org), from_now(days=-5)
    [ann] = timeline.service.insert(timeline.org, [{"data": {"at": opened}}])
    expression = {"$expr": {"$gte": ["$at", {"$dateSubtract": {"startDate": "$$NOW", "unit": "day", "amount": 30}}]}}
    answer = explain(client, ann, {"at": {"$gte": ago(30)}, **expression})
    assert (answer.member, answer.next_change_unknown, answer.HasField("next_change_time")) == (True, True, False)
    [date, received, _] = answer.condition.conditions
    assert (date.HasField("next_change_time"), received.HasField("next_change_time")) == (True, False)
    recent = {"where": {"at": {"$gte": ago(30)}}}
    related = {"$related": {"datatype": "order", "on": {"local": "pk", "foreign": "contactId"}, **recent}}
    assert explain(client, ann, {"$nor": [related]}).next_change_unknown
    related["$related"]["where"] = expression
    assert explain(client, ann, {"$nor": [related]}).next_change_unknown
    assert not explain(client, ann, {"at": {"$gte": ago(30)}}).next_change_unknown


def test_a_calendar_day_begins_and_ends_at_midnight_of_its_timezone(timeline: Timeline) -> None:
    wait_past_midnight(9)
    tokyo = timezone(timedelta(hours=9))
    today = datetime.now(tokyo).date()
    tomorrow = {
        "$onDay": {"date": {"$dateAdd": {"startDate": "$$NOW", "unit": "day", "amount": 1}}, "timezone": "Asia/Tokyo"}
    }
    for days in (1, 2, 40):
        day = today + timedelta(days=days)
        midnight = datetime.combine(day, time(), tokyo).astimezone(UTC)
        begins = midnight if days == 1 else midnight - timedelta(days=1)
        for spelt in (
            day.isoformat(),
            midnight,
            f"{day.isoformat()}T23:59:59.999+09:00",
            midnight.strftime("%Y-%m-%dT%XZ"),
        ):
            assert timeline.next_change({"renewal": tomorrow}, {"renewal": spelt}) == begins
            assert (
                timeline.next_change({"$nor": [{"renewals": {"$elemMatch": tomorrow}}]}, {"renewals": [1, spelt]})
                == begins
            )
    assert timeline.next_change({"renewal": tomorrow}, {"renewal": "2020-01-01"}) is None
    assert timeline.next_change({"renewal": {"$onDay": "2030-01-01"}}, {"renewal": "2030-01-01"}) is None
