"""Lists of custom audiences: reserved, published as a unit, and deleted after the last reader may have ended."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from audience_service.domain.core.clock import now
from audience_service.domain.core.errors import AudienceNotFound, StaleVersion
from audience_service.domain.core.idempotency import new_list_version_id
from audience_service.mongo.custom_audiences.cleanup import CustomAudienceSweeper
from tests.conftest import Service
from tests.support.client import Client
from tests.support.lists import NO_DEADLINE, publish, rows_of, write_rows

Insert = Callable[..., list[str]]

HOUR, LATER = timedelta(hours=1), timedelta(hours=2)


@pytest.fixture
def audience(client: Client) -> str:
    """A file upload without a list."""
    made: str = client.custom(name="list").id
    return made


def record(service: Service, audience_id: str) -> Any:
    """What is stored of an audience."""
    return service.store.database["custom"].find_one({"pk": audience_id})


def test_large_publication_metadata_does_not_shorten_pages(service: Service, client: Client, org: str) -> None:
    for name in ("one", "two", "three"):
        publish(service.store, org, client.custom(name=name).id, [], model="x" * 600_000)
    page = client.call("ListCustomAudiences")
    assert (len(page.custom_audiences), page.next_page_token) == (3, "")


def test_a_list_is_there_once_it_is_published_and_no_sooner(
    service: Service, client: Client, org: str, insert: Insert, audience: str
) -> None:
    ids = insert([{} for _ in range(3)])
    custom_audiences, list_version_id = service.store.custom_audiences, new_list_version_id(audience)
    custom_audiences.reserve(org, audience, list_version_id, now() + HOUR, NO_DEADLINE)
    write_rows(service.store, org, list_version_id, ids)
    assert client.members(audienceId=audience) == []
    written = custom_audiences.publish(
        org, custom_audiences.get(org, audience, NO_DEADLINE), list_version_id, {"upload": "a"}, NO_DEADLINE
    )
    assert sorted(client.members(audienceId=audience)) == sorted(ids)
    shown = client.call("GetCustomAudience", {"id": audience})
    assert (shown.contact_count, shown.version, shown.HasField("refresh_time")) == (3, 1, True)
    assert custom_audiences.get(org, audience, NO_DEADLINE) == written
    assert written.publication == {"upload": "a"}
    assert record(service, audience)["orphaned_lists"] == []


def test_the_previous_list_is_deleted_after_its_streams_end(
    service: Service, client: Client, org: str, insert: Insert, audience: str
) -> None:
    ids = insert([{}, {}])
    first = publish(service.store, org, audience, ids[:1])
    second = publish(service.store, org, audience, ids[1:])
    assert client.members(audienceId=audience) == ids[1:]
    sweeper = service.store.custom_audience_sweeper
    sweeper.sweep(now())
    assert rows_of(service.store, audience) == {first.list_version_id, second.list_version_id}
    sweeper.sweep(now() + LATER)
    assert rows_of(service.store, audience) == {second.list_version_id}
    assert record(service, audience)["orphaned_lists"] == []
    assert client.members(audienceId=audience) == ids[1:]


def test_a_sweep_sees_all_that_is_left_over_however_much_it_is(
    service: Service, client: Client, org: str, insert: Insert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audience_service.mongo.custom_audiences.cleanup.BATCH_SIZE", 1)
    ids = insert([{}])
    made = [client.custom(name=str(number)).id for number in range(3)]
    for audience_id in made * 2:
        publish(service.store, org, audience_id, ids)
    service.store.custom_audience_sweeper.sweep(now() + LATER)
    assert [len(rows_of(service.store, audience_id)) for audience_id in made] == [1, 1, 1]


def test_a_second_publish_of_one_version_is_stale(
    service: Service, client: Client, org: str, insert: Insert, audience: str
) -> None:
    ids = insert([{}, {}])
    custom_audiences, list_version_id = service.store.custom_audiences, new_list_version_id(audience)
    before = custom_audiences.get(org, audience, NO_DEADLINE)
    custom_audiences.reserve(org, audience, list_version_id, now() + HOUR, NO_DEADLINE)
    write_rows(service.store, org, list_version_id, ids[:1])
    publish(service.store, org, audience, ids[1:])
    with pytest.raises(StaleVersion) as caught:
        custom_audiences.publish(org, before, list_version_id, {}, NO_DEADLINE)
    assert caught.value.metadata == {"current_version": "1"}
    assert client.members(audienceId=audience) == ids[1:]


def test_rows_that_were_never_published_are_swept_when_their_time_has_passed(
    service: Service, org: str, insert: Insert, audience: str
) -> None:
    ids = insert([{}])
    custom_audiences, list_version_id = service.store.custom_audiences, new_list_version_id(audience)
    custom_audiences.reserve(org, audience, list_version_id, now() - HOUR, NO_DEADLINE)
    custom_audiences.reserve(org, audience, list_version_id, now() + HOUR, NO_DEADLINE)
    write_rows(service.store, org, list_version_id, ids)
    service.store.custom_audience_sweeper.sweep(now())
    assert rows_of(service.store, audience) == {list_version_id}
    service.store.custom_audience_sweeper.sweep(now() + LATER)
    assert rows_of(service.store, audience) == set()
    with pytest.raises(StaleVersion):
        custom_audiences.publish(
            org, custom_audiences.get(org, audience, NO_DEADLINE), list_version_id, {}, NO_DEADLINE
        )


def test_rows_that_are_being_swept_become_no_list_and_get_no_more_time(
    service: Service, org: str, audience: str
) -> None:
    custom_audiences, list_version_id = service.store.custom_audiences, new_list_version_id(audience)
    custom_audiences.reserve(org, audience, list_version_id, now() + HOUR, NO_DEADLINE)
    service.store.database["custom"].update_one({"pk": audience}, {"$set": {"orphaned_lists.0.is_deleting": True}})
    with pytest.raises(StaleVersion):
        custom_audiences.reserve(org, audience, list_version_id, now() + LATER, NO_DEADLINE)
    with pytest.raises(StaleVersion):
        custom_audiences.publish(
            org, custom_audiences.get(org, audience, NO_DEADLINE), list_version_id, {}, NO_DEADLINE
        )
    service.store.custom_audience_sweeper.sweep(now() + LATER)
    assert record(service, audience)["orphaned_lists"] == []


def test_several_lists_are_reserved_concurrently(
    service: Service, client: Client, org: str, insert: Insert, audience: str
) -> None:
    ids = insert([{}, {}])
    custom_audiences, rows_ids = service.store.custom_audiences, [new_list_version_id(audience) for _ in range(3)]
    for list_version_id in rows_ids:
        custom_audiences.reserve(org, audience, list_version_id, now() + HOUR, NO_DEADLINE)
    write_rows(service.store, org, rows_ids[1], ids)
    written = custom_audiences.publish(
        org, custom_audiences.get(org, audience, NO_DEADLINE), rows_ids[1], {}, NO_DEADLINE
    )
    assert [left["list_version_id"] for left in record(service, audience)["orphaned_lists"]] == [
        rows_ids[0],
        rows_ids[2],
    ]
    custom_audiences.publish(org, written, rows_ids[2], {}, NO_DEADLINE)
    left = record(service, audience)["orphaned_lists"]
    assert sorted(each["list_version_id"] for each in left) == sorted(rows_ids[:2])
    assert client.members(audienceId=audience) == []


def test_rows_of_a_deleted_audience_stay_for_an_hour(
    service: Service, client: Client, org: str, insert: Insert, audience: str
) -> None:
    written = publish(service.store, org, audience, insert([{}]))
    client.call("DeleteCustomAudience", {"id": audience})
    service.store.custom_audience_sweeper.sweep(now())
    assert rows_of(service.store, audience) == {written.list_version_id}
    service.store.custom_audience_sweeper.sweep(now() + LATER)
    assert rows_of(service.store, audience) == set()
    assert record(service, audience) is None


def test_a_late_list_write_does_not_undo_a_deletion(service: Service, client: Client, org: str, audience: str) -> None:
    custom_audiences, list_version_id = service.store.custom_audiences, new_list_version_id(audience)
    before = custom_audiences.get(org, audience, NO_DEADLINE)
    custom_audiences.reserve(org, audience, list_version_id, now() + HOUR, NO_DEADLINE)
    client.call("DeleteCustomAudience", {"id": audience})
    with pytest.raises(AudienceNotFound):
        custom_audiences.publish(org, before, list_version_id, {}, NO_DEADLINE)
    with pytest.raises(AudienceNotFound):
        custom_audiences.reserve(org, audience, list_version_id, now() + HOUR, NO_DEADLINE)


def test_children_of_an_audience_are_deleted_with_it(
    service: Service, client: Client, org: str, insert: Insert, audience: str
) -> None:
    dropped: list[tuple[str, str]] = []
    database = service.store.database
    rows: Any = service.store.snapshot_rows
    sweeper = CustomAudienceSweeper(database, rows, [lambda org, name, _: dropped.append((org, name))])
    publish(service.store, org, audience, insert([{}]))
    sweeper.sweep(now())
    client.call("DeleteCustomAudience", {"id": audience})
    sweeper.sweep(now())
    assert (org, audience) not in dropped
    sweeper.sweep(now() + LATER)
    assert (org, audience) in dropped


def test_a_removal_that_is_taken_back_leaves_all_as_it_was(
    service: Service, client: Client, org: str, insert: Insert, audience: str
) -> None:
    custom_audiences, ids = service.store.custom_audiences, insert([{}])
    written = publish(service.store, org, audience, ids)
    before = record(service, audience)
    custom_audiences.remove(org, written, NO_DEADLINE)
    assert custom_audiences.restore(org, written, NO_DEADLINE)
    after = record(service, audience)
    assert {**after, "modifydate": None} == {**before, "modifydate": None}
    assert client.members(audienceId=audience) == ids
    service.store.custom_audience_sweeper.sweep(now() + LATER)
    assert client.members(audienceId=audience) == ids


def test_a_removal_can_be_undone_for_a_while_even_without_a_list(
    service: Service, client: Client, org: str, audience: str
) -> None:
    custom_audiences = service.store.custom_audiences
    removed = custom_audiences.get(org, audience, NO_DEADLINE)
    custom_audiences.remove(org, removed, NO_DEADLINE)
    service.store.custom_audience_sweeper.sweep(now())
    assert custom_audiences.restore(org, removed, NO_DEADLINE)
    assert client.call("GetCustomAudience", {"id": audience}).name == "list"


def test_a_removal_cannot_be_undone_after_the_name_is_taken(
    service: Service, client: Client, org: str, audience: str
) -> None:
    custom_audiences = service.store.custom_audiences
    removed = custom_audiences.get(org, audience, NO_DEADLINE)
    custom_audiences.remove(org, removed, NO_DEADLINE)
    client.custom(name="list")
    assert not custom_audiences.restore(org, removed, NO_DEADLINE)
    with pytest.raises(AudienceNotFound):
        custom_audiences.get(org, audience, NO_DEADLINE)


def test_audiences_the_platform_marks_deleted_are_hidden_and_swept(
    service: Service, client: Client, org: str, insert: Insert, audience: str
) -> None:
    publish(service.store, org, audience, insert([{}]))
    service.store.database["custom"].update_one({"pk": audience}, {"$set": {"state": "deleted"}})
    assert client.call("ListCustomAudiences").total_size == 0
    client.custom(name="list")
    service.store.custom_audience_sweeper.sweep(now())
    assert rows_of(service.store, audience) != set()
    service.store.custom_audience_sweeper.sweep(now() + LATER)
    assert rows_of(service.store, audience) == set()
    assert record(service, audience) is None
