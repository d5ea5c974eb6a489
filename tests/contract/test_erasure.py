"""EraseContact: nothing of the person is left, nothing comes back, and everybody else stays."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import bson
import pytest

from audience_service.domain.core.clock import now
from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import StoreUnavailable
from audience_service.domain.erasure import service as erasure_service
from audience_service.mongo.core import collections
from audience_service.mongo.core.indexes import required_indexes
from audience_service.mongo.embedded.overrides import EmbeddedLists
from audience_service.mongo.erasure.repository import (
    BOUNDARIES,
    CELLS,
    SENT,
    TEXTS,
    TREATMENT,
    MongoErasures,
    org_documents,
)
from audience_service.mongo.store import Store, mongo_store
from tests.conftest import URI, Service, run_service
from tests.support.client import Client, Refusal
from tests.support.uploads import Uploader

ORG = "acme"
ADDRESS, NUMBER = "ann.leaver@example.com", "+14155550177"
ANN = {"email": "Ann.Leaver@example.com", "phone": "(415) 555-0177", "country": "US", "tags": ["vip"]}
BOB = {"email": "bob@example.com", "phone": "(415) 555-0188", "country": "US", "tags": ["vip"]}
VIPS = {"datatype": "contact", "where": {"tags": "vip"}}
FILE = f"email,phone\n{ADDRESS},\n,{NUMBER}\nbob@example.com,\nnew@example.com,\n".encode()
_CRM = {"contact", "lead", "customer", "order", "event", "subscriber"}


@pytest.fixture
def erasing(store: Store) -> Iterator[Service]:
    """A server on each store in turn, with two contacts. It sweeps at its start, and then only as the test does."""
    for service in run_service("", reopened(store), snapshot_lease_seconds=600):
        service.insert(ORG, [{"id": "ann-1", "data": ANN}, {"id": "bob-2", "data": BOB}])
        service.insert("acme2", [{"id": "ann-1", "data": ANN}])
        yield service


def reopened(store: Store) -> Store:
    """The store for one more server: a server closes the connections of its own."""
    return store if type(store.lists) is EmbeddedLists else mongo_store(URI, store.database.name)


def populate(service: Service, client: Client) -> dict[str, str]:
    """Bring the contacts into every collection; returns the ids of what was made."""
    made = {
        "static": client.create(name="static", type="static", contactIds=["contact-ann-1", "contact-bob-2"]).id,
        "dynamic": client.create(name="dynamic", filter=VIPS).id,
        "quoting": client.create(
            name=f"not {ADDRESS}",
            description="call (415) 555-0177",
            filter={
                "datatype": "contact",
                "where": {"$and": [{"email": {"$ne": ADDRESS.title()}}, {"pk": {"$ne": "contact-ann-1"}}]},
            },
        ).id,
        "snapshot": client.snapshot(filter=VIPS).id,
        "uploaded": client.custom(name="uploaded").id,
        "unmatched": client.custom(name="unmatched").id,
    }
    client.call(
        "UpdateSegment", {"segment": {"id": made["quoting"], "description": "new"}, "updateMask": "description"}
    )
    Uploader(client).upload(made["uploaded"], FILE)
    Uploader(client).upload(made["unmatched"], f"email\n{ADDRESS}x\n".encode(), uploadId="2")
    client.call("RegisterUse", {"use": {
        "audienceId": made["static"], "consumerKind": "ad_sync", "consumerId": "meta", "description": ADDRESS,
    }})  # fmt: skip
    watch = client.call("WatchMembership", {"audienceId": made["dynamic"]}, timeout=60)
    next(iter(watch))
    watch.cancel()
    service.store.database["audience_partition"].insert_one(
        {
            "_id": f"{ORG}/audience_partition/x/2",
            "sk": f"{ORG}/audience_partition/x/2",
            "keys": [f"{ORG}/contact/ann-1"],
        }
    )
    return made


def traces(service: Service) -> list[str]:
    """What the org's documents outside the platform's collections still contain of the person."""
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in (ADDRESS, NUMBER, NUMBER[1:])]
    pattern = re.compile("|".join(["ann-1", re.escape(ADDRESS) + "(?!x)", r"415\D{0,3}555\D?0177", *digests]), re.I)
    binary = [bytes.fromhex(digest)[:16] for digest in digests]
    found = []
    for name in service.store.database.list_collection_names():
        documents = service.store.database[name].find({"sk": {"$regex": f"^{ORG}/"}}) if name not in _CRM else ()
        found += [
            f"{name}: {document}"
            for document in documents
            if pattern.search(repr(document)) or any(digest in bson.encode(document) for digest in binary)
        ]
    return found


def test_a_removal_reads_no_document_of_other_orgs() -> None:
    """An index leads to the org's documents in each collection that is read as a whole."""
    first_fields = {(index.collection, index.keys[0][0]) for index in required_indexes(("contact",))}
    for name, treatment in TREATMENT.items():
        if treatment in {TEXTS, CELLS, BOUNDARIES, SENT}:
            assert "_id" in org_documents(ORG, name) or (name, "sk") in first_fields, name


def test_every_collection_has_a_treatment() -> None:
    """A new collection must say what an erasure does to it."""
    names = {value for name, value in vars(collections).items() if name.isupper()}
    assert names == set(TREATMENT)


@pytest.mark.parametrize(
    "selector", [{"contactId": "contact-ann-1"}, {"email": ADDRESS.upper()}, {"phone": "+1 415 555 0177"}]
)
def test_nothing_of_the_person_is_left(erasing: Service, selector: dict[str, str]) -> None:
    """In no collection of the service, by whatever the person is erased; everybody else stays."""
    client, other = erasing.client(ORG), erasing.client("acme2")
    made = populate(erasing, client)
    assert traces(erasing)
    report = client.call("EraseContact", selector)
    assert (report.contact_count, report.shared_identifier_count) == (1, 0)
    assert set(report.rewritten_ids) == {made["quoting"], made["static"]}
    assert report.removed_counts["audience_member"] == 3  # static, snapshot, uploaded
    assert [(item.system, item.description) for item in report.remaining] == [
        ("platform", "contact"),
        ("ad_sync", "meta"),
    ]
    assert traces(erasing) == []
    for audience in ("static", "dynamic", "snapshot", "uploaded"):
        assert client.members(audienceId=made[audience]) == ["contact-bob-2"], audience
        assert client.call("EstimateReach", {"audienceId": made[audience]}).count == 1
    assert client.members(snapshotId=made["snapshot"]) == ["contact-bob-2"]
    assert client.call("GetSnapshot", {"id": made["snapshot"]}).count == 1
    assert other.members(filter=VIPS) == ["contact-ann-1"]
    batch = next(client.call("StreamUnmatchedRows", {"audienceId": made["unmatched"]}))
    assert [list(row.cells) for row in batch.rows] == [[f"{ADDRESS}x"]]
    [partition] = erasing.store.database["audience_partition"].find()
    assert partition["keys"] == [f"{ORG}/"]
    again = client.call("EraseContact", selector)
    assert not again.rewritten_count
    assert not again.removed_counts


def test_only_the_exports_that_quote_the_person_are_read(erasing: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The export log has a record for each export of years; callers write its subject and request id."""
    log = erasing.store.database["audience_export"]
    subjects = {"a": "bob", "b": ADDRESS, "c": "+1 415\u00a0555\u00a00177", "d": "bob"}
    for key, subject in subjects.items():
        request_id = "of contact-ann-1" if key == "d" else key
        log.insert_one(
            {
                "_id": f"{ORG}/audience_export/{key}",
                "sk": f"{ORG}/audience_export/{key}",
                "subject": subject,
                "request_id": request_id,
            }
        )
    read: list[str] = []
    rewrite_one = MongoErasures._rewrite_one

    def spy(erasures: MongoErasures, collection: str, document: dict[str, Any], *others: Any) -> bool:
        read.extend([document["sk"][-1]] if collection == "audience_export" else [])
        return rewrite_one(erasures, collection, document, *others)

    monkeypatch.setattr(MongoErasures, "_rewrite_one", spy)
    erasing.client(ORG).call("EraseContact", {"contactId": "contact-ann-1"})
    assert sorted(read) == ["b", "c", "d"]
    assert traces(erasing) == []


def test_an_erased_person_cannot_be_imported_or_reappear(erasing: Service, refused: Callable[..., Refusal]) -> None:
    """Neither by a file, nor by id, nor as the same record again."""
    client = erasing.client(ORG)
    client.call("EraseContact", {"contactId": "contact-ann-1"})
    audience = client.custom(name="again").id
    upload = Uploader(client).upload(audience, FILE + b"ann@other.example,\n")
    assert dict(upload.rejected_row_counts) == {"erased": 2}
    assert client.members(audienceId=audience) == ["contact-bob-2"]
    by_id = Uploader(client).upload(client.custom(name="ids").id, b"id\ncontact-ann-1\ncontact-bob-2\n", uploadId="2")
    assert (dict(by_id.rejected_row_counts), by_id.list_size) == ({"erased": 1}, 1)
    call = {"segment": {"name": "s", "type": "static", "contactIds": ["contact-ann-1"]}}
    assert refused(lambda: client.call("CreateSegment", call)).info.reason == "CONTACT_NOT_FOUND"
    contacts = erasing.store.database["contact"]
    contacts.delete_one({"sk": f"{ORG}/contact/ann-1"})
    erasing.insert(ORG, [{"id": "ann-1", "data": ANN}])
    assert client.members(filter=VIPS) == ["contact-bob-2"]
    assert traces(erasing) == []


@pytest.mark.slow
def test_another_process_excludes_the_person_within_the_wait(erasing: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads new tombstones once per second, and the call waits longer than that."""
    for second in run_service("", reopened(erasing.store)):
        members = partial(second.client(ORG).members, filter=VIPS)
        assert len(members()) == 2
        monkeypatch.setattr(erasure_service, "PROPAGATION_SECONDS", 1.25)
        erasing.client(ORG).call("EraseContact", {"email": ADDRESS})
        assert members() == ["contact-bob-2"]
    assert erasure_service.SWEEP_DURATION.total_seconds() > 2 * erasing.settings.stream_timeout_seconds


def test_a_deleted_or_archived_contact_is_erased_as_well(erasing: Service) -> None:
    """By id after the platform deleted the record, and by address while it is only archived."""
    client, contacts = erasing.client(ORG), erasing.store.database["contact"]
    populate(erasing, client)
    contacts.delete_one({"sk": f"{ORG}/contact/ann-1"})
    erasing.insert(ORG, [{"id": "ann-9", "state": "archived", "data": ANN}])
    by_address = client.call("EraseContact", {"email": ADDRESS})
    by_id = client.call("EraseContact", {"contactId": "contact-ann-1"})
    assert (by_address.contact_count, by_id.contact_count) == (1, 0)
    assert traces(erasing) == []
    assert client.members(filter={"datatype": "contact", "where": {"state": "archived"}}) == []


def test_a_late_unmatched_row_is_hidden_before_the_sweep(erasing: Service) -> None:
    """Written by an upload that read its tombstones before the erasure; others of the file stay."""
    client, database = erasing.client(ORG), erasing.store.database
    audience = client.custom(name="late").id
    Uploader(client).upload(audience, b"email\nnobody@example.com\nlater@example.com\n")
    [first, _] = database["audience_upload_row"].find().sort("_id")
    client.call("EraseContact", {"email": ADDRESS})
    database["audience_upload_row"].update_one({"_id": first["_id"]}, {"$set": {"cells": [ADDRESS]}})
    *batches, last = client.call("StreamUnmatchedRows", {"audienceId": audience})
    assert [list(row.cells) for batch in batches for row in batch.rows] == [["later@example.com"]]
    assert last.total_row_count == 1


def test_what_a_running_writer_adds_late_is_hidden_and_swept(erasing: Service) -> None:
    """A row of a list, an unmatched row, an event and a snapshot that were written after the removal."""
    client, database = erasing.client(ORG), erasing.store.database
    made = populate(erasing, client)
    client.call("EraseContact", {"contactId": "contact-ann-1"})
    sk = f"{ORG}/contact/ann-1"
    database["audience_member"].insert_one(
        {"_id": f"{made['static']}/{sk}", "audience": made["static"], "pk": "contact-ann-1", "sk": sk}
    )
    [watch] = database["audience_watch"].find()
    epoch = watch["watch_epoch"]
    database["audience_event"].insert_one({
        "_id": f"{epoch}/{watch['seq'] + 1:012d}", "seq": watch["seq"] + 1, "pk": "contact-ann-1", "sk": sk,
        "change": "exited", "cause": "data", "at": now(),
    })  # fmt: skip
    database["audience_upload_row"].insert_one(
        {"_id": f"{ORG}/audience_upload_row/x/1", "sk": f"{ORG}/audience_upload_row/x/1", "line": 1, "cells": [ADDRESS]}
    )
    assert client.members(audienceId=made["static"]) == ["contact-bob-2"]
    assert client.call("GetSegment", {"id": made["static"]}).contact_count == 1
    database["audience_erasure"].update_many({}, {"$set": {"lease_until": now()}})
    erasing.app._erasure.sweep(now())
    assert traces(erasing) == []
    [event] = erasing.store.event_log.read(ORG, epoch, watch["seq"], None, 10, Deadline(None))
    assert (event.seq, event.change.pk) == (watch["seq"] + 1, "")  # numbered without a gap


def test_a_removal_that_nobody_repeated_in_time_happens_late_and_once(erasing: Service) -> None:
    """After an erasure that failed half way, and a day on which no process ran."""
    client, database = erasing.client(ORG), erasing.store.database
    static = client.create(name="static", type="static", contactIds=["contact-ann-1", "contact-bob-2"]).id
    [row] = database["audience_member"].find({"pk": "contact-ann-1"})
    client.call("EraseContact", {"contactId": "contact-ann-1"})
    for expected in (0, 1):
        database["audience_member"].insert_one(row)
        database["audience_erasure"].update_many(
            {"sweep_until": {"$exists": True}}, {"$set": {"sweep_until": now() - timedelta(days=1)}}
        )
        database["audience_erasure"].update_many({}, {"$set": {"lease_until": now()}})
        erasing.app._erasure.sweep(now())
        assert database["audience_member"].count_documents({"audience": static, "pk": "contact-ann-1"}) == expected
    assert client.members(audienceId=static) == ["contact-bob-2"]
    client.call("EraseContact", {"contactId": "contact-ann-1"})
    [tombstone] = database["audience_erasure"].find()
    assert tombstone["sweep_until"] > now()


def test_no_sweep_repeats_a_removal_during_the_call(erasing: Service) -> None:
    """What a sweep removed while the call waits would be missing from the call's report."""
    erasing.client(ORG).call("EraseContact", {"contactId": "contact-ann-1"})
    [tombstone] = erasing.store.database["audience_erasure"].find()
    assert tombstone["lease_until"] - tombstone["erased_at"] >= timedelta(seconds=20)


def test_a_removal_that_fails_stops_no_other(erasing: Service) -> None:
    """A tombstone of another key comes first."""
    client, database = erasing.client(ORG), erasing.store.database
    static = client.create(name="static", type="static", contactIds=["contact-ann-1", "contact-bob-2"]).id
    [row] = database["audience_member"].find({"pk": "contact-ann-1"})
    client.call("EraseContact", {"contactId": "contact-ann-1"})
    database["audience_member"].insert_one(row)
    [tombstone] = database["audience_erasure"].find()
    key = "elsewhere/audience_erasure/x"
    foreign = {**tombstone, "_id": key, "sk": key, "sealed": b"x" * 64, "lease_until": now() - timedelta(days=1)}
    database["audience_erasure"].insert_one(foreign)
    database["audience_erasure"].update_one({"_id": tombstone["_id"]}, {"$set": {"lease_until": now()}})
    with pytest.raises(StoreUnavailable):
        erasing.app._erasure.sweep(now())
    assert database["audience_member"].count_documents({"audience": static, "pk": "contact-ann-1"}) == 0
    database["audience_erasure"].delete_one({"_id": key})


def test_an_address_that_another_contact_has_stays(erasing: Service) -> None:
    """An office's number does not keep a colleague out of uploads, nor change a filter."""
    erasing.insert(ORG, [{"id": "eve-3", "data": {**ANN, "email": "eve@example.com"}}])
    client = erasing.client(ORG)
    segment = client.create(name="office", filter={"datatype": "contact", "where": {"phone": ANN["phone"]}}).id
    report = client.call("EraseContact", {"contactId": "contact-ann-1"})
    assert (report.shared_identifier_count, report.rewritten_count) == (1, 0)
    assert client.members(audienceId=segment) == ["contact-eve-3"]
    upload = Uploader(client).upload(client.custom(name="again").id, FILE)
    assert (dict(upload.rejected_row_counts), upload.matched_row_count) == ({"erased": 1}, 2)


def test_a_selector_must_name_one_person(erasing: Service, refused: Callable[..., Refusal]) -> None:
    """Exactly one field, which is valid."""
    client = erasing.client(ORG)
    for request, field in (
        ({}, "contact_id"),
        ({"contactId": "contact-1", "email": ADDRESS}, "contact_id"),
        ({"contactId": "vip"}, "contact_id"),  # a word of many names
        ({"email": "ann"}, "email"),
        ({"phone": "555 0177"}, "phone"),
    ):
        error = refused(partial(client.call, "EraseContact", request))
        assert (error.info.reason, error.fields) == ("INVALID_FIELD", [field])


def test_names_that_become_equal_are_numbered(erasing: Service) -> None:
    """Names are unique, and two may differ only in the addresses that they quote."""
    client = erasing.client(ORG)
    bob = client.create(name="without bob@example.com", filter=VIPS).id
    ann = client.create(name=f"without {ADDRESS}", filter=VIPS).id
    client.call("EraseContact", {"contactId": "contact-bob-2"})
    client.call("EraseContact", {"contactId": "contact-ann-1"})
    names = [client.call("GetSegment", {"id": found}).name for found in (bob, ann)]
    assert names == ["without (erased)", "without (erased) 2"]
    assert traces(erasing) == []


def test_a_second_erasure_keeps_what_the_first_one_knew(erasing: Service) -> None:
    """The platform has deleted the record since, so the second one sees no address."""
    client, database = erasing.client(ORG), erasing.store.database
    for _ in range(2):
        client.call("EraseContact", {"contactId": "contact-ann-1"})
        database["contact"].delete_one({"sk": f"{ORG}/contact/ann-1"})
    row = f"{ORG}/audience_upload_row/x/1"
    database["audience_upload_row"].insert_one({"_id": row, "sk": row, "line": 1, "cells": [ADDRESS]})
    database["audience_erasure"].update_many({}, {"$set": {"lease_until": now()}})
    erasing.app._erasure.sweep(now())
    assert traces(erasing) == []


@pytest.mark.slow
def test_a_tombstone_of_another_key_stops_its_org_alone(store: Store, refused: Callable[..., Refusal]) -> None:
    """Nor can a process with another key erase in the org, which would stop the processes with the right one."""
    for service in run_service("", reopened(store)):
        service.insert(ORG, [{"id": "ann-1", "data": ANN}])
        service.insert("acme2", [{"id": "ann-1", "data": ANN}])
        service.client(ORG).call("EraseContact", {"contactId": "contact-ann-1"})
    for service in run_service("", reopened(store), hash_key="another key of hashes, longer than 32 bytes"):
        assert service.client("acme2").count(filter=VIPS) == 1
        erase = partial(service.client(ORG).call, "EraseContact", {"contactId": "contact-bob-2"})
        assert refused(erase).info.reason == "STORE_UNAVAILABLE"


@pytest.mark.slow
def test_another_key_cannot_serve_erased_people(store: Store, refused: Callable[..., Refusal]) -> None:
    """Without the key of the tombstones nobody knows whom they exclude, so no call is answered."""
    for service in run_service("", reopened(store)):
        service.insert(ORG, [{"id": "ann-1", "data": ANN}])
        service.client(ORG).call("EraseContact", {"contactId": "contact-ann-1"})
    for changes in ({"hash_key": None}, {"hash_key": "another key of hashes, longer than 32 bytes"}):
        for service in run_service("", reopened(store), **changes):
            client = service.client(ORG)
            error = refused(partial(client.call, "EstimateReach", {"filter": VIPS}))
            assert (error.info.reason, "AUDIENCE_HASH_KEY" in error.message) == ("STORE_UNAVAILABLE", True)


def test_erasure_needs_a_key(store: Store, refused: Callable[..., Refusal]) -> None:
    """One that is derived from the key of tokens would change with it."""
    for service in run_service("", store, hash_key=None):
        call = partial(service.client(ORG).call, "EraseContact", {"contactId": "contact-ann-1"})
        error = refused(call)
        assert (error.code.name, error.info.reason) == ("FAILED_PRECONDITION", "ERASURE_NOT_CONFIGURED")


def test_an_erasure_leaves_an_audit_line(store: Store, tmp_path: Path) -> None:
    """The line has neither the id nor the address."""
    for service in run_service("", store, audit_log=str(tmp_path / "audit")):
        service.insert(ORG, [{"id": "ann-1", "data": ANN}])
        service.client(ORG).call("EraseContact", {"email": ADDRESS})
    [line] = [json.loads(text) for text in (tmp_path / "audit").read_text().splitlines()]
    assert (line["rpc"], line["action"]) == ("audience.v1.AudienceService/EraseContact", "delete")
    assert (line["org"], line["row_count"], line["code"]) == (ORG, 1, "OK")
    assert "ann" not in str(line)
