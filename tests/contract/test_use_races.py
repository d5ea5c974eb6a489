"""Uses that are registered while their audience is deleted, on every store."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from audience_service.domain.audiences.references import AudienceUse
from audience_service.domain.audiences.service import AudienceUses, RecordFinder
from audience_service.domain.core.context import Caller, Deadline, RequestContext
from audience_service.domain.core.errors import AudienceInUse, AudienceNotFound
from audience_service.domain.segments.deletion import SegmentDeleter
from audience_service.domain.segments.writer import SegmentWriter
from tests.conftest import Service
from tests.support.client import Client
from tests.support.fault_injection import FailAtStep
from tests.support.uses import register

VIP = {"datatype": "contact", "where": {"tags": "vip"}}


class Racers:
    """The use cases that race, on repositories that may be replaced."""

    def __init__(self, service: Service, org: str, *, segments: Any = None, uses: Any = None) -> None:
        self.ctx = RequestContext(Caller("racer", org, frozenset()), Deadline(None))
        segments, uses = segments or service.store.segments, uses or service.store.uses
        self.uses = AudienceUses(uses, {"segment-": RecordFinder(segments.get, segments.find)})
        self.deletion = SegmentDeleter(uses, SegmentWriter(segments, service.store.lists))

    def delete(self, segment_id: str) -> None:
        self.deletion.delete(self.ctx, segment_id, None, force=False)

    def register(self, segment_id: str) -> None:
        self.uses.register(self.ctx, AudienceUse(segment_id, "campaign", "racing"))


def test_a_use_registered_during_a_deletion_stops_it(client: Client, service: Service, org: str, raced: str) -> None:
    racing = FailAtStep(service.store.segments, "save", before=lambda: register(client, raced))
    with pytest.raises(AudienceInUse):
        Racers(service, org, segments=racing).delete(raced)
    assert client.call("GetSegment", {"id": raced}).state == "active"
    assert client.call("GetAudienceUsage", {"audienceId": raced}).use_count == 1
    states = [v.segment.state for v in client.call("ListSegmentVersions", {"id": raced}).versions]
    assert states == ["active", "deleted", "active"]


def test_a_use_registered_as_its_audience_is_deleted_is_withdrawn(
    client: Client, service: Service, org: str, raced: str
) -> None:
    delete = lambda: client.call("DeleteSegment", {"id": raced})  # noqa: E731 - reads as the racing action
    racers = Racers(service, org, uses=FailAtStep(service.store.uses, "add", before=delete))
    with pytest.raises(AudienceNotFound):
        racers.register(raced)
    usage = client.call("GetAudienceUsage", {"audienceId": raced})
    assert usage.use_count == 0
    assert client.call("ListSegments", {"state": "deleted"}).total_size == 1


def test_a_use_that_two_calls_register_is_kept_for_the_one_that_succeeds(
    client: Client, service: Service, org: str, raced: str
) -> None:
    def meanwhile() -> None:
        client.call("DeleteSegment", {"id": raced, "force": True})

    def recovered() -> None:
        client.call("UndeleteSegment", {"id": raced})
        register(client, raced, consumer_id="racing")

    withdrawing = FailAtStep(service.store.uses, "undo_add", before=recovered)
    uses = FailAtStep(withdrawing, "add", after=meanwhile)
    with pytest.raises(AudienceNotFound):
        Racers(service, org, uses=uses).register(raced)
    assert client.call("GetAudienceUsage", {"audienceId": raced}).use_count == 1


def test_a_failed_registration_ends_no_use_that_was_there(
    client: Client, service: Service, org: str, raced: str
) -> None:
    register(client, raced, consumer_id="racing")
    force = lambda: client.call("DeleteSegment", {"id": raced, "force": True})  # noqa: E731
    with pytest.raises(AudienceNotFound):
        Racers(service, org, uses=FailAtStep(service.store.uses, "add", before=force)).register(raced)
    assert client.call("GetAudienceUsage", {"audienceId": raced}).use_count == 1


def test_a_deletion_whose_name_was_reused_is_final(client: Client, service: Service, org: str, raced: str) -> None:
    def meanwhile() -> None:
        service.store.uses.add(org, AudienceUse(raced, "campaign", "late"), Deadline(None))
        client.create(name="raced", filter=VIP)

    Racers(service, org, segments=FailAtStep(service.store.segments, "save", after=meanwhile)).delete(raced)
    assert client.call("ListSegments", {"state": "deleted"}).total_size == 1
    assert client.call("GetAudienceUsage", {"audienceId": raced}).use_count == 1


def test_a_withdrawn_use_leaves_nothing(client: Client, service: Service, org: str, raced: str) -> None:
    delete = lambda: client.call("DeleteSegment", {"id": raced})  # noqa: E731
    with pytest.raises(AudienceNotFound):
        Racers(service, org, uses=FailAtStep(service.store.uses, "add", before=delete)).register(raced)
    assert service.store.database["audience_use"].count_documents({"audience": raced}) == 0


def test_a_use_of_a_deleted_audience_is_refused(client: Client) -> None:
    for number in range(8):
        made = client.create(name=f"raced {number}", filter=VIP)

        def attempt(act: Callable[[], Any]) -> bool:
            try:
                act()
            except Exception:
                return False
            return True

        acts = (
            lambda made=made: client.call("DeleteSegment", {"id": made.id}),
            lambda made=made: register(client, made.id),
        )
        with ThreadPoolExecutor(2) as pool:
            deleted, registered = pool.map(attempt, acts)
        assert not (deleted and registered)
        is_deleted = client.call("ListSegments", {"state": "deleted", "name": made.name}).total_size == 1
        uses = client.call("GetAudienceUsage", {"audienceId": made.id}).use_count
        assert (is_deleted, uses) == (deleted, int(registered))
