"""What SyncService promises for syncs as records, on every store."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import grpc
import pytest

from audience_service.domain.core.clock import now
from audience_service.domain.core.context import Caller, Deadline, RequestContext
from audience_service.domain.core.erased import NobodyErased
from audience_service.domain.core.errors import AudienceNotFound
from audience_service.domain.exports.batches import REMOVE
from audience_service.domain.syncs.model import Batch, BatchState, SyncRow, SyncSpec
from audience_service.domain.syncs.service import Syncs
from audience_service.mongo.syncs.rows import MongoSyncRows
from audience_service.wiring.core import build_core
from tests.conftest import Service
from tests.support.client import Client, Refusal
from tests.support.fault_injection import FailAtStep

Refused = Callable[..., Refusal]
EVERYONE = {"datatype": "contact", "where": {}}


@pytest.fixture
def audience(client: Client) -> str:
    """A segment of everyone."""
    return str(client.create(name="everyone", filter=EVERYONE).id)


def create(client: Client, audience: str, **fields: Any) -> Any:
    """A new sync of an audience."""
    return client.call(
        "CreateSync", {"sync": {"name": "list", "audienceIds": [audience], "platform": "meta", **fields}}
    )


def test_a_sync_is_returned_as_it_was_written(client: Client, audience: str) -> None:
    """Every settable field is stored."""
    written = {
        "excludeAudienceIds": [audience],
        "purpose": "ads",
        "consentFields": ["ads"],
        "externalId": "238",
        "fields": ["email", "phone"],
        "rulesVersion": "meta/2026-11-30",
        "options": {"zip_dash": "cut"},
        "defaultRegion": "US",
        "phonesHaveCountryCode": True,
        "resendAfter": "46656000s",
    }
    created = create(client, audience, **written)
    assert (created.author, created.version, created.external_id) == ("tester", 0, "238")
    assert created.resend_after.ToTimedelta() == timedelta(days=540)
    assert client.call("GetSync", {"id": created.id}) == created
    assert list(client.call("ListSyncs", {}).syncs) == [created]


def test_creating_twice_with_one_request_id_creates_one(client: Client, audience: str, refused: Refused) -> None:
    """The second call returns the first sync; other content is refused."""
    request = {"sync": {"name": "list", "audienceIds": [audience], "platform": "meta"}, "requestId": "r1"}
    first = client.call("CreateSync", request)
    assert client.call("CreateSync", request).id == first.id
    changed = {"sync": {"name": "other", "audienceIds": [audience], "platform": "meta"}, "requestId": "r1"}
    other = refused(lambda: client.call("CreateSync", changed))
    assert other.info.reason == "REQUEST_ID_REUSED"


@pytest.mark.parametrize(
    ("fields", "field_path"),
    [
        ({"name": " "}, "sync.name"),
        ({"audienceIds": []}, "sync.audience_ids"),
        ({"platform": "myspace"}, "sync.platform"),
        ({"fields": ["country"]}, "sync.fields"),
        ({"defaultRegion": "Atlantis"}, "sync.default_region"),
        ({"resendAfter": "60s"}, "sync.resend_after"),
        ({"externalId": "x" * 201}, "sync.external_id"),
        ({"purpose": "fun"}, "sync.purpose"),
    ],
)
def test_a_wrong_field_is_named(
    client: Client, audience: str, refused: Refused, fields: dict[str, Any], field_path: str
) -> None:
    """The error has the path of the field in the request."""
    sync = {"name": "list", "audienceIds": [audience], "platform": "meta", **fields}
    assert refused(lambda: client.call("CreateSync", {"sync": sync})).fields == [field_path]


def test_an_update_changes_the_masked_fields_of_the_expected_version(
    client: Client, audience: str, refused: Refused
) -> None:
    """A stale version and an immutable field are refused."""
    sync = create(client, audience, externalId="1")
    changed = client.call("UpdateSync", {"sync": {"id": sync.id, "name": "new", "version": 0}, "updateMask": "name"})
    assert (changed.name, changed.version, list(changed.audience_ids)) == ("new", 1, [audience])
    assert client.call("GetSync", {"id": sync.id}) == changed
    stale = refused(
        lambda: client.call("UpdateSync", {"sync": {"id": sync.id, "name": "x", "version": 0}, "updateMask": "name"})
    )
    assert (stale.code, stale.info.reason) == (grpc.StatusCode.ABORTED, "STALE_VERSION")
    assert refused(
        lambda: client.call("UpdateSync", {"sync": {"id": sync.id, "externalId": "2"}, "updateMask": "name"})
    ).fields == ["sync.external_id"]
    assert refused(lambda: client.call("UpdateSync", {"sync": {"id": sync.id}, "updateMask": "platform"})).fields == [
        "update_mask"
    ]


def test_syncs_are_listed_by_platform_and_audience(client: Client, audience: str) -> None:
    """Pages are newest first and continue by token."""
    other = client.create(name="other", filter={"datatype": "contact", "where": {}}).id
    ids = [create(client, audience, name=str(n)).id for n in range(3)]
    tiktok = create(client, str(other), platform="tiktok").id
    first = client.call("ListSyncs", {"pageSize": 2, "platform": "meta"})
    second = client.call("ListSyncs", {"pageSize": 2, "platform": "meta", "pageToken": first.next_page_token})
    assert sorted(sync.id for page in (first, second) for sync in page.syncs) == sorted(ids)
    assert (first.total_size, second.next_page_token) == (3, "")
    assert [sync.id for sync in client.call("ListSyncs", {"audienceId": other}).syncs] == [tiktok]


def test_a_deleted_sync_is_gone_with_its_rows(
    service: Service, client: Client, org: str, audience: str, refused: Refused
) -> None:
    """The cleanup deletes the rows once no scan can be running."""
    sync = create(client, audience)
    key = f"{org}/audience_sync_row/{sync.id}/1"
    service.store.database["audience_sync_row"].insert_one({"_id": key, "sk": key})
    assert client.call("DeleteSync", {"id": sync.id}).id == sync.id
    assert refused(lambda: client.call("GetSync", {"id": sync.id})).info.reason == "SYNC_NOT_FOUND"
    service.store.sync_sweeper.sweep(now())
    assert service.store.database["audience_sync_row"].find_one({"_id": key})
    service.store.sync_sweeper.sweep(now() + timedelta(hours=1))
    assert not service.store.database["audience_sync_row"].find_one({"_id": key})


@pytest.mark.parametrize("field", ["audienceIds", "excludeAudienceIds"])
def test_an_audience_of_a_sync_is_in_use(client: Client, audience: str, refused: Refused, field: str) -> None:
    """Until the sync is deleted; a forced deletion does not ask."""
    used = str(client.create(name="used", filter={"datatype": "contact", "where": {"tags": "vip"}}).id)
    sync = create(client, audience, name="VIPs on Meta", **{field: [used]})
    usage = client.call("GetAudienceUsage", {"audienceId": used})
    assert ([(found.id, found.name) for found in usage.syncs], usage.sync_count) == ([(sync.id, "VIPs on Meta")], 1)
    refusal = refused(lambda: client.call("DeleteSegment", {"id": used}))
    assert refusal.info.reason == "AUDIENCE_IN_USE"
    assert (refusal.info.metadata["syncs"], refusal.info.metadata["sync_names"]) == ("1", "VIPs on Meta")
    client.call("DeleteSync", {"id": sync.id})
    assert client.call("GetAudienceUsage", {"audienceId": used}).sync_count == 0
    assert client.call("DeleteSegment", {"id": used}).state == "deleted"


def test_a_sync_of_a_custom_audience_keeps_it(client: Client, refused: Refused) -> None:
    """It is deleted by force alone."""
    used = client.custom(name="list").id
    create(client, used)
    refusal = refused(lambda: client.call("DeleteCustomAudience", {"id": used}))
    assert (refusal.info.reason, refusal.info.metadata["sync_names"]) == ("AUDIENCE_IN_USE", "list")
    assert client.call("DeleteCustomAudience", {"id": used, "force": True}).id == used


def test_a_write_of_a_sync_is_undone_if_its_audience_is_deleted_meanwhile(
    service: Service, client: Client, org: str, audience: str
) -> None:
    """Neither a creation nor an update leaves a sync without its audience."""
    ctx = RequestContext(Caller("racer", org, frozenset()), Deadline(None))
    core, storage = build_core(service.settings, service.store, NobodyErased()), service.store.sync_storage

    def racing(method: str, audience_id: str) -> Syncs:
        delete = lambda: client.call("DeleteSegment", {"id": audience_id})  # noqa: E731 - reads as the racing action
        syncs: Any = FailAtStep(storage.syncs, method, before=delete)
        return Syncs(syncs, storage.rows, storage.batches, core.selection_resolver, core.tokens)

    gone, going = (str(client.create(name=name, filter=EVERYONE).id) for name in ("gone", "going"))
    with pytest.raises(AudienceNotFound):
        racing("insert", gone).create(ctx, SyncSpec("list", (gone,), "meta"), "")
    assert client.call("ListSyncs", {}).total_size == 0
    sync = create(client, audience)
    changed = SyncSpec("list", (going,), "meta")
    with pytest.raises(AudienceNotFound):
        racing("save", going).update(ctx, sync.id, changed, ["audience_ids"], None)
    assert client.call("GetSync", {"id": sync.id}).audience_ids == [audience]


def test_another_orgs_sync_is_not_found(service: Service, client: Client, audience: str) -> None:
    """An id of another org gives the same error as none."""
    sync = create(client, audience)
    stranger = service.client(f"stranger{next(service.names)}x")
    for rpc, request in (
        ("GetSync", {}),
        ("DeleteSync", {}),
        ("ResetSync", {}),
        ("StreamSyncChanges", {"workerId": "w"}),
        ("AcknowledgeSyncBatch", {"batchNumber": 1}),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            answer = stranger.call(rpc, {"id": sync.id, **request})
            if isinstance(answer, Iterator):
                list(answer)
        assert Refusal(caught.value).info.reason == "SYNC_NOT_FOUND"
    assert client.call("ListSyncs", {}).total_size == 1


def test_the_embedded_store_refuses_to_compare(service: Service, client: Client, audience: str) -> None:
    """It cannot evaluate the joins, so it says so."""
    if service.kind != "embedded":
        return
    sync = create(client, audience)
    with pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):
        list(client.call("StreamSyncChanges", {"id": sync.id, "workerId": "w"}))


class Interrupted:
    """A collection in which something else happens before one of its commands."""

    def __init__(self, collection: Any, command: str, event: Callable[[], object]) -> None:
        self._collection, self._command, self._event = collection, command, event

    def __getattr__(self, name: str) -> Any:
        if name == self._command:
            self._command = ""
            self._event()
        return getattr(self._collection, name)


@pytest.mark.parametrize("command", ["update_many", "find", "insert_many"])
@pytest.mark.parametrize("inserted", ["x", "y", "xy"])
def test_a_scan_marks_rows_that_were_erased_and_inserted_again(
    service: Service, org: str, command: str, inserted: str
) -> None:
    """An erasure and an earlier scan, whose lease has expired, write between the commands of a scan."""
    database, sync_id, deadline = service.store.database, "sync-1", Deadline.after(60)
    late, current = (MongoSyncRows(database, service.store.scope) for _ in range(2))
    stored = database["audience_sync_row"]
    rows = {name: SyncRow(name, (name,), (f"{org}/{name}",)) for name in "xy"}

    def interrupt() -> None:
        stored.delete_many({"_id": f"{org}/audience_sync_row/{sync_id}/x"})
        late.mark(org, sync_id, 1, 0, [rows[name] for name in inserted], deadline)

    late.mark(org, sync_id, 1, 0, [rows["x"]], deadline)
    vars(current)["_collection"] = Interrupted(stored, command, interrupt)
    current.mark(org, sync_id, 2, 0, list(rows.values()), deadline)
    found = stored.find({"sk": {"$gte": f"{org}/", "$lt": f"{org}0"}}, {"sk": 1, "scan": 1})
    assert {row["scan"] for row in found} == {2}


@pytest.mark.parametrize("command", ["update_many", "find", "insert_many"])
def test_a_removal_that_is_acknowledged_during_a_scan_deletes_no_row_that_the_scan_found(
    service: Service, org: str, command: str
) -> None:
    """The member has its old address again. Without the row, no later scan would send it: its hash is stored."""
    database, sync_id, deadline = service.store.database, "sync-1", Deadline.after(60)
    rows, stored = MongoSyncRows(database, service.store.scope), database["audience_sync_row"]
    row = SyncRow("x", ("x",), (f"{org}/x",))
    rows.mark(org, sync_id, 1, 0, [row], deadline)
    removal = {"scan": 0, "batch": f"{sync_id}/7", "send": list(row.keys), "platform_keys": list(row.keys)}
    stored.update_one({"_id": f"{org}/audience_sync_row/{sync_id}/x"}, {"$set": removal})
    batch = Batch(7, REMOVE, 0, 1, BatchState.APPLYING)
    current = MongoSyncRows(database, service.store.scope)
    interrupted = Interrupted(stored, command, lambda: rows.apply(org, sync_id, batch, deadline))
    vars(current)["_collection"] = interrupted
    current.mark(org, sync_id, 1, 0, [row], deadline)
    rows.apply(org, sync_id, batch, deadline)
    [found] = stored.find({"sk": {"$gte": f"{org}/", "$lt": f"{org}0"}})
    assert (found["scan"], found["platform_keys"], "batch" in found) == (1, [], False)
