"""What is recorded of members, in snapshots, watches and custom audiences, keeps to its org, whatever ids two share."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from audience_service.domain.core.errors import AudienceNotFound
from audience_service.domain.core.idempotency import CreationState
from audience_service.domain.core.lease import Lease
from audience_service.domain.custom_audiences.model import CustomAudience, CustomAudienceQuery, CustomType
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.set_operations import list_filter
from audience_service.domain.history.model import Cause, Event
from audience_service.domain.snapshots.model import Snapshot, SnapshotQuery
from audience_service.mongo.store import Store
from tests.support.lists import write_rows
from tests.support.tenants import ALL_CONTACTS, LATER, LIST, NEW_YEAR, NO_DEADLINE, REQUEST


def test_snapshots_of_one_id_are_each_orgs_own(orgs: tuple[Store, str, str]) -> None:
    store, ours, theirs = orgs
    made = Snapshot("snapshot-shared", "", CreationState.CREATING, "contact", LATER, LATER, "ann")
    lease = Lease("somebody", LATER)
    snapshots = {}
    for org in (ours, theirs):
        store.snapshots.insert(org, made, lease, REQUEST, NO_DEADLINE)
        snapshots[org] = store.snapshot_rows.write(org, made, ALL_CONTACTS, {}, NO_DEADLINE, lambda: None)
    assert (snapshots[ours].summary.count, snapshots[theirs].summary.count) == (2, 4)
    assert store.snapshots.finish(ours, replace(made, state=CreationState.READY, count=2), NO_DEADLINE)
    assert store.snapshots.get(theirs, made.id, NO_DEADLINE).state is CreationState.CREATING
    streamed = [r["sk"] for batch in store.members.stream(ours, made.rows, [], 10, "", NO_DEADLINE) for r in batch]
    assert streamed == [f"{ours}/contact/a", f"{ours}/contact/b"]
    nothing = replace(made, attempt=2)
    differing = [d.sk for batch in store.snapshot_rows.diff(ours, nothing, made, 10, "", NO_DEADLINE) for d in batch]
    assert differing == streamed
    assert store.snapshots.page(ours, SnapshotQuery(), 10, None, NO_DEADLINE).total == 1
    assert store.snapshots.find_by_key(f"{ours}x", REQUEST, NO_DEADLINE) is None
    store.snapshots.fail(ours, replace(made, error="none of theirs"), LATER, NO_DEADLINE)
    assert store.snapshots.remove(ours, made.id, LATER, NO_DEADLINE).count == 2
    assert store.snapshots.get(theirs, made.id, NO_DEADLINE).error == ""
    assert store.members.count(theirs, made.rows, NO_DEADLINE) == 4
    store.snapshot_rows.delete(ours, made.list_version_id, NO_DEADLINE)
    assert store.members.count(theirs, made.rows, NO_DEADLINE) == 4


@pytest.mark.usefixtures("unwatched")
def test_watches_of_one_audience_and_what_is_recorded_for_them_are_each_orgs_own(orgs: tuple[Store, str, str]) -> None:
    store, ours, theirs = orgs
    for org in (ours, theirs):
        assert store.watches.touch(org, "segment-watched-shared", LATER, NO_DEADLINE) is None
        assert store.watches.create_provisional(org, "segment-watched-shared", "shared", LATER, NO_DEADLINE)
    for org in (ours, theirs):
        store.watches.cancel(f"{org}x", "segment-watched-shared", "shared", NO_DEADLINE)
        accepted = store.watches.confirm(org, "segment-watched-shared", "shared", LATER, NO_DEADLINE)
        touched = store.watches.touch(org, "segment-watched-shared", LATER, NO_DEADLINE)
        assert [watch and watch.org for watch in (accepted, touched)] == [org, org]
        assert store.watches.count(org, 10, NO_DEADLINE) == 1
        assert store.watches.get(f"{org}x", "segment-watched-shared", NO_DEADLINE) is None
    store.event_log.record_members(ours, f"watch-{ours}", ALL_CONTACTS, NO_DEADLINE)
    store.event_log.record_members(theirs, f"watch-{theirs}", ALL_CONTACTS, NO_DEADLINE)
    for org, other, size in ((ours, theirs, 2), (theirs, ours, 4)):
        assert list(store.event_log.diff(org, f"watch-{org}", ALL_CONTACTS, NO_DEADLINE)) == []
        sks = [f"{name}/contact/{key}" for name in (ours, theirs) for key in "abcd"]
        entered = store.event_log.evaluate(org, f"watch-{other}", ALL_CONTACTS, sks, NO_DEADLINE)
        assert [change.sk for change in entered] == [f"{org}/contact/{key}" for key in "abcd"[:size]]
        assert store.event_log.evaluate(org, f"watch-{org}", list_filter(LIST), sks, NO_DEADLINE) == []
        event = Event(1, entered[0], Cause.DATA, LATER)
        with pytest.raises(ValueError, match="another org"):
            store.event_log.append(other, f"watch-{other}", [event], NO_DEADLINE)
        store.event_log.append(org, f"watch-{org}", [event], NO_DEADLINE)
        assert store.event_log.read(other, f"watch-{org}", 0, None, 10, NO_DEADLINE) == []
        store.event_log.trim(other, f"watch-{org}", datetime(3000, 1, 1, tzinfo=UTC), 10, NO_DEADLINE)
        store.event_log.remove(other, f"watch-{org}", NO_DEADLINE)
        assert store.event_log.read(org, f"watch-{org}", 0, None, 10, NO_DEADLINE) == [event]
        assert list(store.event_log.diff(org, f"watch-{org}", ALL_CONTACTS, NO_DEADLINE)) == []
        found = store.event_log.find_crossing(org, CompiledFilter("contact", {"state": None}), NO_DEADLINE)
        assert [key for keys in found for key in keys] == [change.sk for change in entered]
        dated = store.event_log.find_dated(org, "contact", [{"state": None}], ["state"], 100, NO_DEADLINE)
        assert sorted(record["sk"] for record in dated) == [change.sk for change in entered]
        empty = Snapshot("snapshot-nobody", "", CreationState.READY, "contact", LATER, LATER, "")
        since = store.history.diff_snapshot(org, f"watch-{org}", 0, empty, "", NO_DEADLINE)
        assert [change.sk for changes, _ in since for change in changes][1:] == [change.sk for change in entered][1:]
        assert list(store.history.diff_snapshot(other, f"watch-{org}", 0, empty, "", NO_DEADLINE)) == []


def test_custom_audiences_of_one_id_are_each_orgs_own(orgs: tuple[Store, str, str]) -> None:
    store, ours, theirs = orgs
    custom_audiences, list_version_id = store.custom_audiences, "custom-shared.12345678"
    made = CustomAudience("custom-shared", "shared", "", CustomType.FILE_UPLOAD, "contact", created_at=NEW_YEAR)
    for org in orgs[1:]:
        custom_audiences.insert(org, made, REQUEST, NO_DEADLINE)
        custom_audiences.reserve(org, made.id, list_version_id, LATER, NO_DEADLINE)
        write_rows(store, org, list_version_id, ["contact-a"])
    ids = ("_id", "sk")
    before = store.database["custom"].find_one({"sk": f"{theirs}/custom/shared"}, dict.fromkeys(ids, 0))
    written = custom_audiences.publish(ours, made, list_version_id, {}, NO_DEADLINE)
    assert custom_audiences.get(theirs, made.id, NO_DEADLINE).list_version_id == ""
    assert custom_audiences.page(ours, CustomAudienceQuery(), 10, None, NO_DEADLINE).total == 1
    assert custom_audiences.is_name_taken(ours, "shared", NO_DEADLINE)
    custom_audiences.remove(ours, written, NO_DEADLINE)
    assert not custom_audiences.is_name_taken(ours, "shared", NO_DEADLINE)
    assert custom_audiences.find_by_key(ours, REQUEST, NO_DEADLINE) is None
    assert store.database["custom"].find_one({"sk": f"{theirs}/custom/shared"}, dict.fromkeys(ids, 0)) == before
    store.custom_audience_sweeper.sweep(datetime.now(UTC) + timedelta(hours=2))
    assert [row["sk"] for row in store.database["audience_member"].find({"audience": list_version_id})] == [
        f"{theirs}/contact/a"
    ]
    with pytest.raises(AudienceNotFound):
        custom_audiences.get(ours, made.id, NO_DEADLINE)
    assert custom_audiences.get(theirs, made.id, NO_DEADLINE).name == "shared"
