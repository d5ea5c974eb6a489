"""Retargeting pixels: who has events that are recent enough, evaluated at each use."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from audience_service.domain.audiences.resolver import AudienceResolver
from audience_service.domain.core.context import Caller, RequestContext
from audience_service.domain.custom_audiences.loader import CustomAudienceLoader
from audience_service.domain.custom_audiences.model import CUSTOM_PREFIX
from audience_service.domain.filters import FilterCompiler
from tests.conftest import Service
from tests.support.client import Client, Refusal
from tests.support.events import described
from tests.support.lists import NO_DEADLINE

Refused = Callable[..., Refusal]
MILLISECOND = timedelta(milliseconds=1)


class Site:
    """An org whose contacts visit a site."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.org = f"pixel{next(service.names)}"
        self.client: Client = service.client(self.org)
        self.contacts = sorted(service.insert(self.org, [{"id": f"{n}"} for n in range(4)]))

    def visit(self, *when: Any, contact: int = 0, org: str = "", **event: Any) -> None:
        """Store visits of a contact, by number, at these times."""
        data = {"type": "visit", "url": "/pricing", "contactId": self.contacts[contact], **event.pop("data", {})}
        events = [{"createdate": timestamp, **event, "data": data} for timestamp in when]
        self.service.insert(org or self.org, events, "event")

    def pixel(self, where: dict[str, Any] | None = None, **spec: Any) -> Any:
        """A pixel of visits within 30 days by default."""
        rule = {"where": {"type": "visit"} if where is None else where, "withinDays": 30, **spec}
        return self.client.custom(name=f"p{next(self.service.names)}", type="retargeting_pixel", retargetingPixel=rule)

    def members(self, pixel: Any) -> list[int]:
        """The members of a pixel, by number; its reach must agree."""
        found = self.client.members(audienceId=pixel.id)
        assert self.client.count(audienceId=pixel.id) == len(found)
        return [self.contacts.index(each) for each in found]

    def count_at(self, pixel: Any, timestamp: datetime) -> int:
        """How many members a pixel has at a timestamp."""
        store = self.service.store
        compiler = FilterCompiler(["contact"], ["event"])
        loaders = {CUSTOM_PREFIX: CustomAudienceLoader(store.custom_audiences)}
        audiences = AudienceResolver(compiler, loaders).at(timestamp)
        ctx = RequestContext(Caller("tester", self.org, frozenset()), NO_DEADLINE)
        population = audiences.population_of(ctx, audiences.find(ctx, pixel.id))
        return store.members.count(self.org, population, NO_DEADLINE)


@pytest.fixture
def site(real_service: Service) -> Site:
    """An org of the test's own."""
    return Site(real_service)


def days_ago(days: float) -> datetime:
    """The time that many days before now."""
    return datetime.now(UTC) - timedelta(days=days)


def text(timestamp: datetime) -> str:
    """A timestamp as the platform writes it."""
    return timestamp.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def test_a_recent_event_makes_a_member_and_an_old_one_does_not(site: Site) -> None:
    site.visit(days_ago(29.9))
    site.visit(days_ago(30.1), contact=1)
    assert site.members(site.pixel()) == [0]
    assert site.members(site.pixel(withinDays=31)) == [0, 1]
    assert site.members(site.pixel(withinDays=29)) == []


@pytest.mark.parametrize("stored", [lambda timestamp: timestamp, text], ids=["as a date", "as text"])
def test_an_event_counts_until_it_is_older_than_its_days_to_the_millisecond(
    site: Site, stored: Callable[[datetime], Any]
) -> None:
    visited = datetime(2026, 3, 1, 12, 30, 15, 250_000, tzinfo=UTC)
    site.visit(stored(visited))
    pixel, last = site.pixel(), visited + timedelta(days=30)
    timestamps = [visited - MILLISECOND, visited, last - MILLISECOND, last, last + MILLISECOND]
    assert [site.count_at(pixel, timestamp) for timestamp in timestamps] == [0, 1, 1, 1, 0]


def test_events_that_are_dated_ahead_do_not_count_before_their_time(site: Site) -> None:
    site.visit(days_ago(-1))
    assert site.members(site.pixel()) == []


def test_the_date_field_can_be_another_field_with_dates_or_text(site: Site) -> None:
    site.visit(None, data={"at": days_ago(1)})
    site.visit(None, contact=1, data={"at": text(days_ago(1))})
    site.visit(None, contact=2, data={"at": text(days_ago(31))})
    site.visit(days_ago(1), contact=3, data={"at": "yesterday"})
    assert site.members(site.pixel(dateField="at")) == [0, 1]
    assert site.members(site.pixel(dateField="data.at")) == [0, 1]


def test_it_takes_as_many_events_as_asked_for_within_the_days(site: Site) -> None:
    site.visit(days_ago(1), days_ago(2), days_ago(3))
    site.visit(days_ago(1), days_ago(2), days_ago(40), contact=1)
    assert site.members(site.pixel(minEvents=3)) == [0]
    assert site.members(site.pixel(minEvents=2)) == [0, 1]
    assert site.members(site.pixel(minEvents=4)) == []


def test_only_events_that_match_count(site: Site) -> None:
    site.visit(days_ago(1))
    site.visit(days_ago(1), contact=1, data={"url": "/about"})
    site.visit(days_ago(1), contact=2, data={"type": "purchase"})
    assert site.members(site.pixel({"type": "visit", "url": "/pricing"})) == [0]
    assert site.members(site.pixel({"$or": [{"url": "/about"}, {"type": "purchase"}]})) == [1, 2]
    assert site.members(site.pixel({})) == [0, 1, 2]


def test_events_of_other_orgs_and_inactive_events_are_ignored(site: Site) -> None:
    site.visit(days_ago(1), org=f"{site.org}2")
    site.visit(days_ago(1), contact=1, state="deleted")
    site.visit(days_ago(1), contact=2, state="archived")
    assert site.members(site.pixel()) == []
    assert site.members(site.pixel({"state": "archived"})) == [2]


def test_events_without_a_contact_are_ignored(site: Site) -> None:
    for contact_id in (None, "", "contact-nobody", 7):
        site.visit(days_ago(1), data={"contactId": contact_id})
    site.service.insert(site.org, [{"createdate": days_ago(1), "data": {"type": "visit"}}], "event")
    assert site.members(site.pixel()) == []


def test_the_contact_field_can_be_another_field(site: Site) -> None:
    site.visit(days_ago(1), contact=1, data={"who": site.contacts[2]})
    assert site.members(site.pixel(contactField="who")) == [2]


def test_contacts_that_are_no_longer_in_use_are_no_members(site: Site) -> None:
    site.visit(days_ago(1))
    pixel = site.pixel()
    assert site.members(pixel) == [0]
    site.service.store.database["contact"].update_one({"sk": f"{site.org}/contact/0"}, {"$set": {"state": "deleted"}})
    assert site.members(pixel) == []


def test_a_pixel_is_an_audience_like_any_other(site: Site) -> None:
    site.visit(days_ago(1))
    site.visit(days_ago(1), contact=1)
    pixel, client, [first, second, *_] = site.pixel(), site.client, site.contacts
    inside = {"datatype": "contact", "where": {"$inAudience": pixel.id}}
    outside = {"datatype": "contact", "where": {"$nor": [{"$inAudience": pixel.id}]}}
    segment = client.create(name="inside", filter=inside)
    assert client.members(audienceId=segment.id) == [first, second]
    assert client.members(filter=outside) == site.contacts[2:]
    overlap = client.call("GetOverlap", {"audienceId": pixel.id, "otherAudienceId": segment.id})
    assert (overlap.count, overlap.size) == (2, 2)
    assert client.members(audienceIds=[pixel.id, segment.id]) == [first, second]
    checked = client.call("CheckMembership", {"audienceIds": [pixel.id], "contactIds": site.contacts[1:3]})
    assert [list(each.audience_ids) for each in checked.memberships] == [[pixel.id], []]
    explained = client.call("ExplainMembership", {"audienceId": pixel.id, "contactId": first})
    assert (explained.member, explained.next_change_unknown) == (True, True)
    snapshot = client.snapshot(audienceId=pixel.id, name="launch")
    assert snapshot.count == 2
    source = {"audienceId": pixel.id}
    static_copy = client.call("CreateSegment", {"segment": {"name": "frozen", "type": "static"}, "source": source})
    assert static_copy.contact_count == 2
    insights = client.call("GetInsights", {"audienceId": pixel.id, "dimensions": ["country"]})
    assert insights.count == 2
    assert "event" in client.call("ExplainFilter", {"audienceId": pixel.id}).description
    *_, last = client.call("ExportIdentifiers", {"audienceId": pixel.id, "platform": "meta", "fields": ["email"]})
    assert last.readiness.member_count == 2


@pytest.mark.usefixtures("unwatched")
def test_a_watch_sends_events_for_visits(site: Site) -> None:
    pixel = site.pixel()
    stream = site.client.call("WatchMembership", {"audienceId": pixel.id}, timeout=60)
    try:
        next(stream)
        site.visit(days_ago(1))
        while not (events := next(stream).events):
            pass
        assert [described(event)[:2] for event in events] == [("entered", site.contacts[0])]
    finally:
        stream.cancel()


def test_a_rule_is_kept_as_it_was_written(site: Site) -> None:
    where = {"type": "visit", "at": {"$gte": {"$dateSubtract": {"startDate": "$$NOW", "unit": "hour", "amount": 5}}}}
    made = site.pixel(where, minEvents=2)
    found = site.client.call("GetCustomAudience", {"id": made.id})
    assert found.retargeting_pixel == made.retargeting_pixel
    assert dict(found.retargeting_pixel.where)["type"] == "visit"


def test_events_that_may_no_longer_be_joined_make_it_unusable(site: Site, refused: Refused) -> None:
    pixel = site.pixel()
    changed = {"$set": {"data.spec.event_datatype": "secret"}}
    site.service.store.database["custom"].update_one({"pk": pixel.id}, changed)
    refusal = refused(lambda: site.client.call("EstimateReach", {"audienceId": pixel.id}))
    assert refusal.info.reason == "UNUSABLE_AUDIENCE"


def test_the_embedded_store_refuses_it_or_is_right(service: Service, client: Client, insert: Any) -> None:
    [contact] = insert([{}])
    insert([{"createdate": days_ago(1), "data": {"contactId": contact}}], "event")
    rule = {"where": {}, "withinDays": 30}
    made = client.custom(name="p", type="retargeting_pixel", retargetingPixel=rule)
    try:
        assert client.members(audienceId=made.id) == [contact]
    except Exception as error:
        assert service.kind == "embedded"
        assert Refusal(error).info.reason == "UNSUPPORTED_BY_STORE"
