"""What is recorded of members, in snapshots, watches and custom audiences, keeps to its org, whatever ids two share."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from audience_service.domain.custom.audience import CustomAudience, CustomQuery, CustomType
from audience_service.domain.errors import AudienceNotFound
from audience_service.domain.filters.sets import of_list
from audience_service.domain.snapshots.ports import Lease
from audience_service.domain.snapshots.snapshot import Snapshot, SnapshotQuery, SnapshotState
from audience_service.domain.watches.watch import Cause, Event
from audience_service.mongo.store import Store
from tests.lists import write_rows
from tests.tenants import EVERYONE, LATER, LIST, NEVER, NEW_YEAR, REQUEST


def test_snapshots_of_one_id_are_each_orgs_own(orgs: tuple[Store, str, str]) -> None:
    store, ours, theirs = orgs
    made = Snapshot("snapshot-shared", "", SnapshotState.CREATING, "contact", LATER, LATER, "ann")
    lease = Lease("somebody", LATER)
    frozen = {}
    for org in (ours, theirs):
        store.snapshots.insert(org, made, lease, REQUEST, NEVER)
        frozen[org] = store.frozen.freeze(org, made, EVERYONE, {}, NEVER, lambda: None)
    assert (frozen[ours].count, frozen[theirs].count) == (2, 4)
    assert store.snapshots.finish(ours, replace(made, state=SnapshotState.READY, count=2), NEVER)
    assert store.snapshots.get(theirs, made.id, NEVER).state is SnapshotState.CREATING
    streamed = [r["sk"] for batch in store.members.stream(ours, made.rows, [], 10, "", NEVER) for r in batch]
    assert streamed == [f"{ours}/contact/a", f"{ours}/contact/b"]
    nothing = replace(made, attempt=2)
    differing = [d.sk for batch in store.differences.stream(ours, nothing, made, 10, "", NEVER) for d in batch]
    assert differing == streamed
    assert store.snapshots.page(ours, SnapshotQuery(), 10, None, NEVER).total == 1
    assert store.snapshots.find_request(f"{ours}x", REQUEST, NEVER) is None
    store.snapshots.fail(ours, replace(made, failure="none of theirs"), LATER, NEVER)
    assert store.snapshots.remove(ours, made.id, LATER, NEVER).count == 2
    assert store.snapshots.get(theirs, made.id, NEVER).failure == ""
    assert store.members.count(theirs, made.rows, NEVER) == 4
    store.frozen.drop(ours, made.rows_id, NEVER)
    assert store.members.count(theirs, made.rows, NEVER) == 4


@pytest.mark.usefixtures("unwatched")
def test_watches_of_one_audience_and_what_is_recorded_for_them_are_each_orgs_own(orgs: tuple[Store, str, str]) -> None:
    store, ours, theirs = orgs
    for org in (ours, theirs):
        assert store.watches.want(org, "segment-watched-shared", LATER, NEVER) is None
        assert store.watches.propose(org, "segment-watched-shared", "shared", LATER, NEVER)
    for org in (ours, theirs):
        store.watches.withdraw(f"{org}x", "segment-watched-shared", "shared", NEVER)
        accepted = store.watches.accept(org, "segment-watched-shared", "shared", LATER, NEVER)
        wanted = store.watches.want(org, "segment-watched-shared", LATER, NEVER)
        assert [watch and watch.org for watch in (accepted, wanted)] == [org, org]
        assert store.watches.count(org, 10, NEVER) == 1
        assert store.watches.get(f"{org}x", "segment-watched-shared", NEVER) is None
    store.ledger.record(ours, f"watch-{ours}", EVERYONE, NEVER)
    store.ledger.record(theirs, f"watch-{theirs}", EVERYONE, NEVER)
    for org, other, size in ((ours, theirs, 2), (theirs, ours, 4)):
        assert list(store.ledger.differences(org, f"watch-{org}", EVERYONE, NEVER)) == []
        sks = [f"{name}/contact/{key}" for name in (ours, theirs) for key in "abcd"]
        entered = store.ledger.judge(org, f"watch-{other}", EVERYONE, sks, NEVER)
        assert [flip.sk for flip in entered] == [f"{org}/contact/{key}" for key in "abcd"[:size]]
        assert store.ledger.judge(org, f"watch-{org}", of_list(LIST), sks, NEVER) == []
        event = Event(1, entered[0], Cause.DATA, LATER)
        with pytest.raises(ValueError, match="another org"):
            store.ledger.append(other, f"watch-{other}", [event], NEVER)
        store.ledger.append(org, f"watch-{org}", [event], NEVER)
        assert store.ledger.read(other, f"watch-{org}", 0, None, 10, NEVER) == []
        store.ledger.forget(other, f"watch-{org}", datetime(3000, 1, 1, tzinfo=UTC), 10, NEVER)
        store.ledger.remove(other, f"watch-{org}", NEVER)
        assert store.ledger.read(org, f"watch-{org}", 0, None, 10, NEVER) == [event]
        assert list(store.ledger.differences(org, f"watch-{org}", EVERYONE, NEVER)) == []
        found = store.ledger.passing(org, "contact", [{"state": None}], NEVER)
        assert [key for keys in found for key in keys] == [flip.sk for flip in entered]
        dated = store.ledger.dated(org, "contact", [{"state": None}], ["state"], 100, NEVER)
        assert sorted(record["sk"] for record in dated) == [flip.sk for flip in entered]
        nobody = Snapshot("snapshot-nobody", "", SnapshotState.READY, "contact", LATER, LATER, "")
        since = store.starts.differences(org, f"watch-{org}", 0, nobody, "", NEVER)
        assert [flip.sk for flips, _ in since for flip in flips][1:] == [flip.sk for flip in entered][1:]
        assert list(store.starts.differences(other, f"watch-{org}", 0, nobody, "", NEVER)) == []


def test_custom_audiences_of_one_id_are_each_orgs_own(orgs: tuple[Store, str, str]) -> None:
    store, ours, theirs = orgs
    customs, rows_id = store.customs, "custom-shared.12345678"
    made = CustomAudience("custom-shared", "shared", "", CustomType.FILE_UPLOAD, "contact", create_time=NEW_YEAR)
    for org in orgs[1:]:
        customs.insert(org, made, REQUEST, NEVER)
        customs.reserve(org, made.id, rows_id, LATER, NEVER)
        write_rows(store, org, rows_id, ["contact-a"])
    ids = ("_id", "sk")
    before = store.database["custom"].find_one({"sk": f"{theirs}/custom/shared"}, dict.fromkeys(ids, 0))
    written = customs.publish(ours, made, rows_id, {}, NEVER)
    assert customs.get(theirs, made.id, NEVER).rows_id == ""
    assert customs.page(ours, CustomQuery(), 10, None, NEVER).total == 1
    assert customs.is_name_taken(ours, "shared", NEVER)
    customs.remove(ours, written, NEVER)
    assert not customs.is_name_taken(ours, "shared", NEVER)
    assert customs.find_request(ours, REQUEST, NEVER) is None
    assert store.database["custom"].find_one({"sk": f"{theirs}/custom/shared"}, dict.fromkeys(ids, 0)) == before
    store.custom_sweeper.sweep(datetime.now(UTC) + timedelta(hours=2))
    assert [row["sk"] for row in store.database["audience_member"].find({"audience": rows_id})] == [
        f"{theirs}/contact/a"
    ]
    with pytest.raises(AudienceNotFound):
        customs.get(ours, made.id, NEVER)
    assert customs.get(theirs, made.id, NEVER).name == "shared"
