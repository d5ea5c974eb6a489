"""Lists of custom audiences: reserved, published whole, and swept once nobody reads them."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from audience_service.domain.clock import now
from audience_service.domain.creation import new_rows_id
from audience_service.domain.errors import AudienceNotFound, StaleVersion
from audience_service.mongo.custom_sweep import CustomSweeper
from tests.client import Client
from tests.conftest import Service
from tests.lists import NEVER, publish, rows_of, write_rows

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


def test_pages_are_not_cut_short_by_what_publishers_noted(service: Service, client: Client, org: str) -> None:
    for name in ("one", "two", "three"):
        publish(service.store, org, client.custom(name=name).id, [], model="x" * 600_000)
    page = client.call("ListCustomAudiences")
    assert (len(page.custom_audiences), page.next_page_token) == (3, "")


def test_a_list_is_there_once_it_is_published_and_no_sooner(
    service: Service, client: Client, org: str, insert: Insert, audience: str
) -> None:
    ids = insert([{} for _ in range(3)])
    customs, rows_id = service.store.customs, new_rows_id(audience)
    customs.reserve(org, audience, rows_id, now() + HOUR, NEVER)
    write_rows(service.store, org, rows_id, ids)
    assert client.members(audienceId=audience) == []
    written = customs.publish(org, customs.get(org, audience, NEVER), rows_id, {"upload": "a"}, NEVER)
    assert sorted(client.members(audienceId=audience)) == sorted(ids)
    shown = client.call("GetCustomAudience", {"id": audience})
    assert (shown.contact_count, shown.version, shown.HasField("refresh_time")) == (3, 1, True)
    assert customs.get(org, audience, NEVER) == written
    assert written.published == {"upload": "a"}
    assert record(service, audience)["leftovers"] == []


def test_the_list_before_goes_when_streams_of_it_have_ended(
    service: Service, client: Client, org: str, insert: Insert, audience: str
) -> None:
    ids = insert([{}, {}])
    first = publish(service.store, org, audience, ids[:1])
    second = publish(service.store, org, audience, ids[1:])
    assert client.members(audienceId=audience) == ids[1:]
    sweeper = service.store.custom_sweeper
    sweeper.sweep(now())
    assert rows_of(service.store, audience) == {first.rows_id, second.rows_id}
    sweeper.sweep(now() + LATER)
    assert rows_of(service.store, audience) == {second.rows_id}
    assert record(service, audience)["leftovers"] == []
    assert client.members(audienceId=audience) == ids[1:]


def test_a_sweep_sees_all_that_is_left_over_however_much_it_is(
    service: Service, client: Client, org: str, insert: Insert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audience_service.mongo.custom_sweep._AT_ONCE", 1)
    ids = insert([{}])
    made = [client.custom(name=str(number)).id for number in range(3)]
    for audience_id in made * 2:
        publish(service.store, org, audience_id, ids)
    service.store.custom_sweeper.sweep(now() + LATER)
    assert [len(rows_of(service.store, audience_id)) for audience_id in made] == [1, 1, 1]


def test_a_second_publisher_of_one_version_publishes_nothing(
    service: Service, client: Client, org: str, insert: Insert, audience: str
) -> None:
    ids = insert([{}, {}])
    customs, rows_id = service.store.customs, new_rows_id(audience)
    before = customs.get(org, audience, NEVER)
    customs.reserve(org, audience, rows_id, now() + HOUR, NEVER)
    write_rows(service.store, org, rows_id, ids[:1])
    publish(service.store, org, audience, ids[1:])
    with pytest.raises(StaleVersion) as caught:
        customs.publish(org, before, rows_id, {}, NEVER)
    assert caught.value.metadata == {"current_version": "1"}
    assert client.members(audienceId=audience) == ids[1:]


def test_rows_that_were_never_published_are_swept_when_their_time_has_passed(
    service: Service, org: str, insert: Insert, audience: str
) -> None:
    ids = insert([{}])
    customs, rows_id = service.store.customs, new_rows_id(audience)
    customs.reserve(org, audience, rows_id, now() - HOUR, NEVER)
    customs.reserve(org, audience, rows_id, now() + HOUR, NEVER)
    write_rows(service.store, org, rows_id, ids)
    service.store.custom_sweeper.sweep(now())
    assert rows_of(service.store, audience) == {rows_id}
    service.store.custom_sweeper.sweep(now() + LATER)
    assert rows_of(service.store, audience) == set()
    with pytest.raises(StaleVersion):
        customs.publish(org, customs.get(org, audience, NEVER), rows_id, {}, NEVER)


def test_rows_that_are_being_swept_become_no_list_and_get_no_more_time(
    service: Service, org: str, audience: str
) -> None:
    customs, rows_id = service.store.customs, new_rows_id(audience)
    customs.reserve(org, audience, rows_id, now() + HOUR, NEVER)
    service.store.database["custom"].update_one({"pk": audience}, {"$set": {"leftovers.0.swept": True}})
    with pytest.raises(StaleVersion):
        customs.reserve(org, audience, rows_id, now() + LATER, NEVER)
    with pytest.raises(StaleVersion):
        customs.publish(org, customs.get(org, audience, NEVER), rows_id, {}, NEVER)
    service.store.custom_sweeper.sweep(now() + LATER)
    assert record(service, audience)["leftovers"] == []


def test_several_lists_are_reserved_at_once_each_by_itself(
    service: Service, client: Client, org: str, insert: Insert, audience: str
) -> None:
    ids = insert([{}, {}])
    customs, rows_ids = service.store.customs, [new_rows_id(audience) for _ in range(3)]
    for rows_id in rows_ids:
        customs.reserve(org, audience, rows_id, now() + HOUR, NEVER)
    write_rows(service.store, org, rows_ids[1], ids)
    written = customs.publish(org, customs.get(org, audience, NEVER), rows_ids[1], {}, NEVER)
    assert [left["rows"] for left in record(service, audience)["leftovers"]] == [rows_ids[0], rows_ids[2]]
    customs.publish(org, written, rows_ids[2], {}, NEVER)
    left = record(service, audience)["leftovers"]
    assert sorted(each["rows"] for each in left) == sorted(rows_ids[:2])
    assert client.members(audienceId=audience) == []


def test_what_was_deleted_leaves_its_rows_for_an_hour_and_then_nothing(
    service: Service, client: Client, org: str, insert: Insert, audience: str
) -> None:
    written = publish(service.store, org, audience, insert([{}]))
    client.call("DeleteCustomAudience", {"id": audience})
    service.store.custom_sweeper.sweep(now())
    assert rows_of(service.store, audience) == {written.rows_id}
    service.store.custom_sweeper.sweep(now() + LATER)
    assert rows_of(service.store, audience) == set()
    assert record(service, audience) is None


def test_a_deletion_is_not_undone_by_who_still_writes_a_list(
    service: Service, client: Client, org: str, audience: str
) -> None:
    customs, rows_id = service.store.customs, new_rows_id(audience)
    before = customs.get(org, audience, NEVER)
    customs.reserve(org, audience, rows_id, now() + HOUR, NEVER)
    client.call("DeleteCustomAudience", {"id": audience})
    with pytest.raises(AudienceNotFound):
        customs.publish(org, before, rows_id, {}, NEVER)
    with pytest.raises(AudienceNotFound):
        customs.reserve(org, audience, rows_id, now() + HOUR, NEVER)


def test_what_belongs_to_an_audience_goes_with_it_and_no_sooner(
    service: Service, client: Client, org: str, insert: Insert, audience: str
) -> None:
    dropped: list[tuple[str, str]] = []
    database = service.store.database
    rows = service.store.custom_sweeper._rows
    sweeper = CustomSweeper(database, rows, [lambda org, name, _: dropped.append((org, name))])
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
    customs, ids = service.store.customs, insert([{}])
    written = publish(service.store, org, audience, ids)
    before = record(service, audience)
    customs.remove(org, written, NEVER)
    assert customs.restore(org, written, NEVER)
    after = record(service, audience)
    assert {**after, "modifydate": None} == {**before, "modifydate": None}
    assert client.members(audienceId=audience) == ids
    service.store.custom_sweeper.sweep(now() + LATER)
    assert client.members(audienceId=audience) == ids


def test_a_removal_can_be_taken_back_for_a_while_also_where_there_is_no_list(
    service: Service, client: Client, org: str, audience: str
) -> None:
    customs = service.store.customs
    removed = customs.get(org, audience, NEVER)
    customs.remove(org, removed, NEVER)
    service.store.custom_sweeper.sweep(now())
    assert customs.restore(org, removed, NEVER)
    assert client.call("GetCustomAudience", {"id": audience}).name == "list"


def test_a_removal_is_not_taken_back_where_another_has_the_name_now(
    service: Service, client: Client, org: str, audience: str
) -> None:
    customs = service.store.customs
    removed = customs.get(org, audience, NEVER)
    customs.remove(org, removed, NEVER)
    client.custom(name="list")
    assert not customs.restore(org, removed, NEVER)
    with pytest.raises(AudienceNotFound):
        customs.get(org, audience, NEVER)


def test_what_the_platform_marks_as_deleted_is_gone_and_swept(
    service: Service, client: Client, org: str, insert: Insert, audience: str
) -> None:
    publish(service.store, org, audience, insert([{}]))
    service.store.database["custom"].update_one({"pk": audience}, {"$set": {"state": "deleted"}})
    assert client.call("ListCustomAudiences").total_size == 0
    client.custom(name="list")
    service.store.custom_sweeper.sweep(now())
    assert rows_of(service.store, audience) != set()
    service.store.custom_sweeper.sweep(now() + LATER)
    assert rows_of(service.store, audience) == set()
    assert record(service, audience) is None
