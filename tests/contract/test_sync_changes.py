"""What StreamSyncChanges and AcknowledgeSyncBatch promise, on the real engine."""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import grpc
import pytest
from pymongo.collection import Collection
from pymongo.errors import AutoReconnect

from audience_service.domain.core.clock import now
from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import StoreUnavailable
from audience_service.domain.core.lease import Lease
from audience_service.domain.identifiers import IdentifierExtractor, platforms
from audience_service.domain.identifiers.platforms import PLATFORMS
from audience_service.domain.syncs.scanner import SyncScanner
from audience_service.mongo.syncs.members import MongoSyncMembers
from audience_service.mongo.syncs.rows import MongoSyncRows
from tests.conftest import Service
from tests.support.client import Client, Refusal
from tests.support.syncs import PlatformList, acknowledge, batches, exported, is_addition, mirror

Refused = Callable[..., Refusal]
FIELDS = ("email", "phone")


@pytest.fixture
def org(real_service: Service) -> str:
    """An org of this test's own."""
    return f"sync{next(real_service.names)}x"


@pytest.fixture
def client(real_service: Service, org: str) -> Client:
    """A client of the test's org."""
    return real_service.client(org)


class List:
    """A sync of the contacts with a tag, and the platform's list."""

    def __init__(self, service: Service, client: Client, org: str, platform: str = "meta", **sync: Any) -> None:
        self.contacts = service.store.database["contact"]
        self.service, self.client, self.org = service, client, org
        audience = client.create(name="vips", filter={"datatype": "contact", "where": {"tags": "vip"}})
        self.fields = ["uid2"] if platform == "thetradedesk" else list(FIELDS[: 1 if platform == "linkedin" else 2])
        self.selection = {"audienceId": audience.id, "platform": platform, "fields": self.fields}
        written = {"name": "vips", "audienceIds": [audience.id], "platform": platform, "fields": self.fields, **sync}
        self.id = client.call("CreateSync", {"sync": written}).id
        self.platform = PlatformList(platform, self.fields)

    def add(self, key: str, **data: Any) -> None:
        """A new member."""
        self.service.insert(self.org, [{"id": key, "data": {"tags": ["vip"], **data}}])

    def edit(self, key: str, **data: Any) -> None:
        """Change the payload of a member."""
        changes = {f"data.{name}": value for name, value in data.items()}
        self.contacts.update_one({"sk": f"{self.org}/contact/{key}"}, {"$set": changes})

    def erase(self, key: str) -> None:
        """Delete the record."""
        self.contacts.delete_one({"sk": f"{self.org}/contact/{key}"})

    def batches(self, **request: Any) -> list[tuple[Any, list[list[str]]]]:
        """The batches of a stream."""
        return batches(self.client, self.id, **request)[0]

    def mirror(self) -> list[int]:
        """Mirror, check that the list equals the audience, and return the numbers of the batches."""
        numbers: list[int] = []
        mirror(self.client, self.id, self.platform, lambda message: numbers.append(message.batch_number))
        assert self.platform.keys == exported(self.client, self.platform, self.selection)
        return numbers

    def rows(self) -> list[dict[str, Any]]:
        """The stored rows."""
        return list(self.service.store.database["audience_sync_row"].find({"sk": {"$regex": f"^{self.org}/"}}))

    def expire_leases(self) -> None:
        """End the leases of all open batches."""
        past = {"$set": {"lease_until": now() - timedelta(seconds=1)}}
        self.service.store.database["audience_sync_batch"].update_many({"sk": {"$regex": f"^{self.org}/"}}, past)


@pytest.fixture
def vips(real_service: Service, client: Client, org: str) -> List:
    """A list on Meta."""
    return List(real_service, client, org)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_list_does_not_drift(real_service: Service, client: Client, org: str, platform: str) -> None:
    """One changes address and leaves, one is erased, one changes address and stays, one consents late."""
    found = List(real_service, client, org, platform)
    real_service.insert(
        org,
        [{"id": f"{n:03}", "data": {**_addresses(n), "phone": f"+1202555{n:04}", "tags": ["vip"]}} for n in range(200)],
    )
    found.edit("003", status="unsubscribed")
    assert found.mirror() == [1]
    before = set(found.platform.keys)
    found.edit("000", **_addresses(1_000), tags=[])
    found.erase("001")
    found.edit("002", **_addresses(1_002))
    found.edit("003", status="active")
    sent = found.platform.rows
    found.mirror()
    kinds = len(found.fields)
    assert len(before - found.platform.keys) == 2 * kinds + 1
    assert len(found.platform.keys - before) == 1 + kinds
    assert found.platform.rows - sent == 5, "only the difference is sent"
    assert len(found.rows()) == 198


def _addresses(number: int) -> dict[str, str]:
    """An email address, and a raw UID2 in the form of one."""
    uid2 = base64.b64encode(hashlib.sha256(str(number).encode()).digest()).decode()
    return {"email": f"{number}@example.com", "uid2": uid2}


def test_a_new_value_of_a_customer_is_added_again(real_service: Service, client: Client, org: str) -> None:
    """Also another fraction of the same whole number. Nothing is removed: the identifiers are the same."""
    found = List(real_service, client, org)
    client.call("UpdateSync", {"sync": {"id": found.id, "fields": ["email", "customer_value"]}, "updateMask": "fields"})
    found.add("a", email="ann@example.com", customerValue=44.5)
    [(first, [row])] = found.batches()
    acknowledge(client, found.id, first.batch_number)
    found.edit("a", customerValue=44.75)
    [(second, [changed])] = found.batches()
    acknowledge(client, found.id, second.batch_number)
    assert (row[1], changed[1], is_addition(second), row[0]) == ("44.5", "44.75", True, changed[0])
    assert found.batches() == []


def test_an_identifier_of_another_member_stays(vips: List) -> None:
    """A removal omits it; it is removed once the last member that has it leaves."""
    vips.add("a", email="ann@example.com", phone="+12025550100")
    vips.add("b", email="bob@example.com", phone="+12025550100")
    vips.mirror()
    vips.erase("a")
    [(message, [row])] = vips.batches()
    assert (is_addition(message), len([value for value in row if value])) == (False, 1)
    vips.mirror()
    vips.erase("b")
    vips.mirror()
    assert vips.platform.keys == set()
    assert vips.rows() == []


def test_hashes_of_an_erased_contact_live_until_the_removal_is_acknowledged(vips: List) -> None:
    """The row that was sent is the row to remove."""
    vips.add("a", email="ann@example.com")
    vips.mirror()
    vips.erase("a")
    [(message, _)] = vips.batches()
    assert len(vips.rows()) == 1
    acknowledge(vips.client, vips.id, message.batch_number)
    assert vips.rows() == []


def test_an_erased_contact_is_removed_from_the_platform(vips: List) -> None:
    """By the next stream, also right after another one; the report names the sync."""
    vips.add("a", email="ann@example.com")
    vips.add("b", email="bob@example.com")
    vips.mirror()
    report = vips.client.call("EraseContact", {"contactId": "contact-a"})
    assert [(found.system, found.description) for found in report.remaining if found.system == "sync"] == [
        ("sync", vips.id)
    ]
    assert vips.mirror() == [2]
    assert len(vips.rows()) == 1


def test_an_erased_contact_is_never_sent_for_the_first_time(vips: List, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its row waits for a batch of a comparison that is still used."""
    small_batches(monkeypatch, 1)
    for key in "ab":
        vips.add(key, email=f"{key}@example.com")
    [(message, rows)] = vips.batches(maxBatches=1)
    acknowledge(vips.client, vips.id, message.batch_number)
    [waiting] = {f"{key}@example.com" for key in "ab"} - {
        address for address in ("a@example.com", "b@example.com") if _digest(address) in rows[0]
    }
    vips.client.call("EraseContact", {"email": waiting})
    assert vips.batches() == []
    assert len(vips.rows()) == 1


@pytest.mark.parametrize("is_sent", [True, False])
def test_an_erasure_finds_rows_without_an_address(
    real_service: Service, client: Client, org: str, refused: Refused, monkeypatch: pytest.MonkeyPatch, is_sent: bool
) -> None:
    """A row with a UID2 alone is deleted, or reported if the platform has it. Those of other contacts stay."""
    found = List(real_service, client, org, "thetradedesk")
    for key, number in (("a", 1), ("b", 2), ("c", 2)):
        found.add(key, uid2=_addresses(number)["uid2"])
    with monkeypatch.context() as context:
        if not is_sent:
            context.setattr(MongoSyncRows, "assign", unavailable)
            refused(found.batches)
        else:
            found.mirror()
    for key in "ab":
        report = client.call("EraseContact", {"contactId": f"contact-{key}"})
        remaining = [(each.description, each.count) for each in report.remaining if each.system == "sync"]
        assert remaining == ([(found.id, 1)] if is_sent and key == "a" else [])
    assert len(found.rows()) == 1 + is_sent
    found.mirror()
    assert len(found.rows()) == 1


def test_a_row_that_an_erasure_deletes_returns_with_another_member(
    vips: List, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    """Two contacts have the same address, and no platform has it yet."""
    for key in "ab":
        vips.add(key, email="both@example.com")
    with monkeypatch.context() as context:
        context.setattr(MongoSyncRows, "assign", unavailable)
        refused(vips.batches)
    scan = {f"data.latest_scan.{name}": now() + timedelta(hours=1) for name in ("started_at", "ended_at")}
    vips.service.store.database["audience_sync"].update_one({"pk": vips.id}, {"$set": scan})
    vips.client.call("EraseContact", {"contactId": "contact-a"})
    assert vips.mirror() == [1]
    assert len(vips.platform.keys) == 1


def unavailable(*_: Any) -> None:
    """Fail as a method of a database that is gone."""
    raise StoreUnavailable("the database is gone")


def test_a_later_comparison_reads_only_members_that_differ(vips: List, monkeypatch: pytest.MonkeyPatch) -> None:
    """One entered, one changed and one exited of six; a change of another field is none."""
    for key in "abcde":
        vips.add(key, email=f"{key}@example.com")
    vips.mirror()
    read: list[str] = []
    identify = IdentifierExtractor.identify

    def spy(extractor: IdentifierExtractor, record: dict[str, Any]) -> Any:
        read.append(record["sk"].rpartition("/")[2])
        return identify(extractor, record)

    vips.add("f", email="f@example.com")
    vips.edit("b", email="new@example.com")
    vips.edit("c", score=5)
    vips.erase("d")
    with monkeypatch.context() as context:
        context.setattr(IdentifierExtractor, "identify", spy)
        assert len(vips.batches()) == 2
    assert sorted(read) == ["b", "f"]
    vips.expire_leases()
    vips.mirror()
    sync = vips.client.call("GetSync", {"id": vips.id})
    assert (sync.latest_scan.member_count, sync.latest_scan.valid_count) == (5, 5)


@pytest.mark.parametrize("command", ["start", "replace"])
@pytest.mark.parametrize("address", ["ann@example.com", "third@example.com"])
def test_a_comparison_that_died_is_repeated(
    vips: List, monkeypatch: pytest.MonkeyPatch, refused: Refused, command: str, address: str
) -> None:
    """A member changes address, the process dies in the comparison, and the address changes back or again."""
    vips.add("a", email="ann@example.com")
    vips.mirror()
    vips.edit("a", email="other@example.com")
    with monkeypatch.context() as context:
        context.setattr(MongoSyncMembers, command, unavailable)
        refused(vips.batches)
    vips.edit("a", email=address)
    vips.mirror()
    assert len(vips.platform.keys) == 1


def _digest(address: str) -> str:
    return hashlib.sha256(address.encode()).hexdigest()


def test_a_member_that_left_before_it_was_sent_is_never_removed(vips: List) -> None:
    """The platform never had it."""
    vips.add("a", email="ann@example.com")
    vips.add("b", email="ann@example.com")
    vips.add("c", email="no email")
    vips.erase("b")
    [(message, rows)] = vips.batches()
    assert (len(rows), is_addition(message)) == (1, True)
    acknowledge(vips.client, vips.id, message.batch_number, rejectedRows=[0])
    vips.erase("a")
    assert vips.batches() == []
    assert vips.rows() == []


def test_consent_that_is_withdrawn_removes_and_given_late_adds(real_service: Service, client: Client, org: str) -> None:
    """Consent counts per member, as in exports."""
    found = List(real_service, client, org, "google", consentFields=["ads"])
    found.selection["consentFields"] = ["ads"]
    found.add("a", email="ann@example.com", ads=True)
    found.add("b", email="bob@example.com", ads=False)
    found.mirror()
    found.edit("a", ads=False)
    found.edit("b", ads=True)
    found.mirror()
    assert len(found.platform.keys) == 1


def test_two_workers_never_receive_the_same_batch(vips: List, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is redelivered, identical, only to its own worker or after its lease."""
    small_batches(monkeypatch, 2)
    for key in "abcde":
        vips.add(key, email=f"{key}@example.com")
    first = vips.batches(workerId="one", maxBatches=1)
    second = vips.batches(workerId="two", maxBatches=1)
    assert [message.batch_number for message, _ in (*first, *second)] == [1, 2]
    assert vips.batches(workerId="one", maxBatches=1)[0][1] == first[0][1]
    vips.edit("a", email="changed@example.com")
    vips.expire_leases()
    again = vips.batches(workerId="three", maxBatches=3)
    assert [message.batch_number for message, _ in again] == [1, 2, 3]
    assert [rows for _, rows in again[:2]] == [first[0][1], second[0][1]]


def test_a_comparison_is_not_taken_over_while_it_may_run(vips: List, refused: Refused) -> None:
    """Not by the same worker either: the database may still run the command of its old call."""
    vips.add("a", email="ann@example.com")
    syncs = vips.service.store.sync_storage.syncs
    running = Lease("old call", now() + timedelta(minutes=1))
    assert syncs.acquire(vips.org, vips.id, running, Deadline(None))
    call = {"id": vips.id, "workerId": "worker"}
    assert (
        refused(lambda: list(vips.client.call("StreamSyncChanges", call, timeout=1))).code.name == "DEADLINE_EXCEEDED"
    )
    syncs.release(vips.org, vips.id, running, Deadline(None))
    assert vips.mirror() == [1]


def test_an_identifier_is_in_at_most_one_open_batch(vips: List) -> None:
    """A new address of the same person waits for the removal of the old one."""
    vips.add("a", email="old@example.com", phone="+12025550100")
    vips.mirror()
    vips.edit("a", email="new@example.com")
    [(removal, _)], totals = batches(vips.client, vips.id)
    assert (is_addition(removal), totals.blocked_count, totals.open_batch_count) == (False, 1, 1)
    acknowledge(vips.client, vips.id, removal.batch_number)
    [(addition, _)] = vips.batches()
    assert is_addition(addition)


def test_a_stream_that_sends_the_rest_of_a_scan_does_not_scan_again(
    vips: List, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one after it does, since a stream without a batch promises that the list equals the audience."""
    vips.add("a", email="old@example.com", phone="+12025550100")
    vips.mirror()
    vips.edit("a", email="new@example.com")
    scans: list[str] = []
    scan = SyncScanner.scan

    def spy(scanner: SyncScanner, *arguments: Any) -> Any:
        scans.append("scan")
        return scan(scanner, *arguments)

    monkeypatch.setattr(SyncScanner, "scan", spy)
    for expected in ([False, 1], [True, 1]):
        [(message, _)] = vips.batches()
        assert [is_addition(message), len(scans)] == expected
        acknowledge(vips.client, vips.id, message.batch_number)
    assert (vips.batches(), len(scans)) == ([], 2)


def test_an_acknowledgement_can_be_repeated(vips: List, refused: Refused) -> None:
    """The first receipt counts, and GetSync shows it."""
    vips.add("a", email="ann@example.com")
    [(message, _)] = vips.batches()
    first = acknowledge(vips.client, vips.id, message.batch_number, receivedCount=1, matchedCount=1)
    assert acknowledge(vips.client, vips.id, message.batch_number, invalidCount=1) == first
    assert (first.row_count, first.received_count, first.matched_count, first.invalid_count) == (1, 1, 1, 0)
    sync = vips.client.call("GetSync", {"id": vips.id})
    assert list(sync.receipts) == [first]
    assert (sync.latest_scan.member_count, sync.latest_scan.valid_count) == (1, 1)
    assert refused(lambda: acknowledge(vips.client, vips.id, 9)).info.reason == "SYNC_BATCH_NOT_FOUND"


def test_a_late_command_of_a_removal_keeps_what_was_added_since(vips: List, monkeypatch: pytest.MonkeyPatch) -> None:
    """The acknowledgement was given up and repeated, while the database still worked on its first command."""
    vips.add("a", email="ann@example.com")
    vips.mirror()
    vips.edit("a", tags=[])
    [(message, rows)] = vips.batches()
    vips.platform.apply(is_addition(message), rows)
    late: list[Callable[[], Any]] = []
    update_many = Collection.update_many

    def delayed(collection: Any, match: Any, update: Any, *arguments: Any) -> Any:
        if "$pullAll" not in update:
            return update_many(collection, match, update, *arguments)
        late.append(lambda: update_many(collection, match, update, *arguments))
        raise AutoReconnect("the answer was lost")

    with monkeypatch.context() as patch, pytest.raises(grpc.RpcError):
        patch.setattr(Collection, "update_many", delayed)
        acknowledge(vips.client, vips.id, message.batch_number)
    acknowledge(vips.client, vips.id, message.batch_number)
    vips.edit("a", tags=["vip"])
    vips.mirror()
    for command in late:
        command()
    assert late
    vips.edit("a", tags=[])
    vips.mirror()
    assert not vips.platform.keys


def test_of_two_acknowledgements_at_the_same_time_the_first_counts(vips: List, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both reject rows. The second one reads the rows of the batch after the first one has released them."""
    for key in "ab":
        vips.add(key, email=f"{key}@example.com")
    [(message, _)] = vips.batches()
    digests = MongoSyncRows.digests

    def interrupted(*args: Any) -> tuple[str, ...]:
        monkeypatch.setattr(MongoSyncRows, "digests", digests)
        acknowledge(vips.client, vips.id, message.batch_number, receivedCount=2, rejectedRows=[1])
        return digests(*args)

    monkeypatch.setattr(MongoSyncRows, "digests", interrupted)
    receipt = acknowledge(vips.client, vips.id, message.batch_number, receivedCount=1, rejectedRows=[0, 1])
    assert (receipt.received_count, receipt.rejected_count) == (2, 1)
    assert [row.get("is_rejected", False) for row in sorted(vips.rows(), key=lambda row: row["sk"])] == [False, True]


def test_rejected_rows_are_sent_again_only_once_they_change(vips: List, refused: Refused) -> None:
    """A batch can be accepted in part."""
    for key in "abc":
        vips.add(key, email=f"{key}@example.com")
    [(message, rows)] = vips.batches()
    out_of_range = refused(lambda: acknowledge(vips.client, vips.id, message.batch_number, rejectedRows=[0, 3]))
    assert out_of_range.fields == ["rejected_rows[1]"]
    receipt = acknowledge(vips.client, vips.id, message.batch_number, rejectedRows=[1])
    assert (receipt.row_count, receipt.rejected_count) == (3, 1)
    assert vips.batches() == []
    for key in "abc":
        vips.erase(key)
    [(message, removed)] = vips.batches()
    assert sorted(removed) == sorted([rows[0], rows[2]])
    acknowledge(vips.client, vips.id, message.batch_number, rejectedRows=[0])
    assert [len(again) for _, again in vips.batches()] == [1], "a refused removal is tried again"


def test_members_are_sent_again_after_resend_after(real_service: Service, client: Client, org: str) -> None:
    """The platform expires them."""
    found = List(real_service, client, org, "google", resendAfter="46656000s")
    found.add("a", email="ann@example.com")
    found.mirror()
    assert found.batches() == []
    old = {"$set": {"sent_at": now() - timedelta(days=541)}}
    real_service.store.database["audience_sync_row"].update_many({"sk": {"$regex": f"^{org}/"}}, old)
    [(message, rows)] = found.batches()
    assert (is_addition(message), len(rows)) == (True, 1)


def test_other_rules_replace_only_the_rows_that_differ(vips: List) -> None:
    """A removal has the form of its addition."""
    vips.add("a", email="ann@example.com", phone="+12025550100")
    vips.add("b", email="bob@example.com")
    vips.mirror()
    vips.client.call("UpdateSync", {"sync": {"id": vips.id, "fields": ["email"]}, "updateMask": "fields"})
    found = vips.batches()
    assert [(is_addition(message), len(rows)) for message, rows in found] == [(False, 1)]
    assert list(found[0][0].columns)[:2] == ["EMAIL", "PHONE"]
    vips.platform.apply(False, found[0][1])
    acknowledge(vips.client, vips.id, found[0][0].batch_number)
    [(message, _)] = vips.batches()
    assert set(message.columns) == {"EMAIL"}
    acknowledge(vips.client, vips.id, message.batch_number)
    assert vips.batches() == []
    assert len(vips.rows()) == 2


def test_another_order_of_the_fields_removes_nobody(vips: List) -> None:
    """A first and a last name are one key in either order. So the new row of the same person only adds to it."""
    update = {"sync": {"id": vips.id, "fields": ["first_name", "last_name"]}, "updateMask": "fields"}
    vips.client.call("UpdateSync", update)
    vips.add("a", firstName="Ann", lastName="Lee", city="Rome")
    [(first, _)] = vips.batches()
    acknowledge(vips.client, vips.id, first.batch_number)
    update["sync"] = {"id": vips.id, "fields": ["last_name", "first_name", "city"]}
    vips.client.call("UpdateSync", update)
    [(second, rows)] = vips.batches()
    assert (is_addition(second), len(rows)) == (True, 1)


def test_a_reset_sends_all_members_again(vips: List, refused: Refused) -> None:
    """Open batches are discarded, and the list may have another id."""
    vips.add("a", email="ann@example.com")
    vips.mirror()
    vips.add("b", email="bob@example.com")
    [(discarded, _)] = vips.batches()
    assert vips.client.call("ResetSync", {"id": vips.id, "externalId": "99"}).external_id == "99"
    refusal = refused(lambda: acknowledge(vips.client, vips.id, discarded.batch_number))
    assert refusal.info.reason == "SYNC_BATCH_NOT_FOUND"
    [(message, rows)] = vips.batches()
    assert (len(rows), message.batch_number) == (2, discarded.batch_number + 1)


def test_a_deleted_audience_removes_no_one(vips: List, refused: Refused) -> None:
    """The list stays as it is until the sync is changed."""
    vips.add("a", email="ann@example.com")
    vips.mirror()
    vips.client.call("DeleteSegment", {"id": vips.selection["audienceId"], "force": True})
    assert refused(lambda: vips.batches()).info.reason == "AUDIENCE_NOT_FOUND"
    assert len(vips.rows()) == 1


def test_a_wrong_request_of_a_worker_is_refused(vips: List, refused: Refused) -> None:
    """The error names the field."""
    for request, field_path in (
        ({"workerId": "x" * 101}, "worker_id"),
        ({"maxBatches": -1}, "max_batches"),
        ({"leaseDuration": "0s"}, "lease_duration"),
    ):
        assert refused(lambda request=request: vips.batches(**request)).fields == [field_path]
    assert refused(lambda: acknowledge(vips.client, vips.id, 1, receivedCount=-1)).fields == ["received_count"]


def test_a_batch_is_sent_in_parts(vips: List, monkeypatch: pytest.MonkeyPatch) -> None:
    """No message exceeds the limit; the last part says so."""
    monkeypatch.setattr("audience_service.domain.syncs.changes.MAX_PART_BYTES", 200)
    for key in "abcd":
        vips.add(key, email=f"{key}@example.com")
    messages = list(vips.client.call("StreamSyncChanges", {"id": vips.id, "workerId": "w"}))
    assert [(len(message.rows), message.last_in_batch) for message in messages[:-1]] == [
        (2, False),
        (2, True),
    ]


def small_batches(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Let every platform take only this many rows."""
    small = tuple(replace(rules, batch_size=size) for rules in platforms.PLATFORM_RULES)
    monkeypatch.setattr(platforms, "PLATFORM_RULES", small)
