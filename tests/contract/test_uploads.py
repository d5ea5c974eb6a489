"""UploadMembers on complete files, on every store."""

import hashlib
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Service
from tests.support.client import Client, Refusal
from tests.support.lists import NO_DEADLINE
from tests.support.uploads import FAILED, PUBLISHED, Uploader

Insert = Callable[..., list[str]]


@pytest.fixture
def uploader(client: Client) -> Uploader:
    return Uploader(client)


def people(insert: Insert) -> dict[str, str]:
    """Contacts by a short name."""
    contacts = {
        "ann": {"email": "Ann@Example.com", "phone": "+1 800 555 0100"},
        "bob": {"email": " bob@example.com", "phone": "(415) 555-2671", "country": "US"},
        "cyd": {"email": "cyd@example.com"},
        "eve": {"email": "shared@example.com"},
        "fay": {"email": "SHARED@example.com"},
        "odd": {"email": 7, "phone": ["x"]},
    }
    ids = insert([{"id": name, "data": data} for name, data in contacts.items()])
    return dict(zip(contacts, ids, strict=True))


def members_of(client: Client, audience_id: str) -> set[str]:
    return {member.removeprefix("contact-") for member in client.members(audienceId=audience_id)}


def test_rows_are_matched_by_id_email_and_phone_in_any_way_of_writing_them(
    client: Client, insert: Insert, uploader: Uploader
) -> None:
    ids = people(insert)
    made = client.custom(name="list")
    data = f"""Phone, EMAIL ,id,note
,ANN@example.COM,,"by email, with
a line end"
(415) 555-2671,,,
,,{ids["cyd"]},
,nobody@example.com,,
"""
    upload = uploader.upload(made.id, data, defaultRegion="US")
    assert (upload.state, upload.row_count, upload.accepted_row_count) == (PUBLISHED, 4, 4)
    assert (
        upload.matched_row_count,
        upload.duplicate_row_count,
        upload.unmatched_row_count,
        upload.matched_contact_count,
    ) == (3, 0, 1, 3)
    assert upload.next_offset == len(data)
    assert upload.list_size == 3
    assert members_of(client, made.id) == {"ann", "bob", "cyd"}
    assert client.call("GetCustomAudience", {"id": made.id}).contact_count == 3
    assert client.call("GetUpload", {"audienceId": made.id, "uploadId": "first"}) == upload


def test_a_row_is_matched_by_the_first_of_its_fields_that_anybody_has(
    client: Client, insert: Insert, uploader: Uploader
) -> None:
    ids = people(insert)
    made = client.custom(name="list")
    rows = [
        f"{ids['cyd']},ann@example.com,",
        "contact-nobody,ann@example.com,",
        "contact-nobody,nobody@example.com,+14155552671",
    ]
    upload = uploader.upload(made.id, "\n".join(["id,email,phone", *rows]))
    assert (upload.matched_row_count, members_of(client, made.id)) == (3, {"ann", "bob", "cyd"})


def test_everybody_with_an_address_is_put_on_and_taken_off(client: Client, insert: Insert, uploader: Uploader) -> None:
    people(insert)
    made = client.custom(name="list")
    upload = uploader.upload(made.id, "email\nshared@example.com\nann@example.com\n")
    assert (upload.matched_row_count, upload.matched_contact_count, upload.list_size) == (2, 3, 3)
    assert members_of(client, made.id) == {"ann", "eve", "fay"}
    upload = uploader.upload(made.id, "email\nshared@example.com\n", mode="remove", uploadId="second")
    assert (upload.matched_row_count, upload.matched_contact_count, upload.list_size) == (1, 2, 1)
    assert members_of(client, made.id) == {"ann"}


def test_an_identifier_shared_by_too_many_contacts_matches_none(
    client: Client, insert: Insert, uploader: Uploader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audience_service.domain.uploads.matching.MAX_CONTACTS_PER_IDENTIFIER", 2)
    people(insert)
    insert([{"data": {"email": "none@example.com"}} for _ in range(3)])
    made = client.custom(name="list")
    rows = ["none@example.com,", "shared@example.com,", "x,", "none@example.com,+18005550100", "NONE@example.com,"]
    upload = uploader.upload(made.id, "\n".join(["email,phone", *rows]))
    assert members_of(client, made.id) == {"ann", "eve", "fay"}
    assert (upload.matched_row_count, upload.unmatched_row_count, upload.matched_contact_count) == (2, 0, 3)
    assert dict(upload.rejected_row_counts) == {"too_common": 2, "invalid_email": 1}
    assert [(each.line, each.reason) for each in upload.rejections] == [
        (2, "too_common"),
        (4, "invalid_email"),
        (6, "too_common"),
    ]


def test_append_remove_and_replace(client: Client, insert: Insert, uploader: Uploader) -> None:
    people(insert)
    made = client.custom(name="list")
    steps: list[tuple[str, list[str], set[str]]] = [
        ("append", ["ann", "bob"], {"ann", "bob"}),
        ("append", ["bob", "cyd"], {"ann", "bob", "cyd"}),
        ("remove", ["bob", "shared"], {"ann", "cyd"}),
        ("replace", ["bob"], {"bob"}),
        ("remove", ["bob"], set()),
        ("append", ["cyd"], {"cyd"}),
    ]
    for number, (mode, names, left) in enumerate(steps):
        data = "email\n" + "".join(f"{name}@example.com\n" for name in names)
        upload = uploader.upload(made.id, data, mode=mode, uploadId=f"{number}")
        assert (members_of(client, made.id), upload.list_size) == (left, len(left)), number


def test_a_list_is_not_replaced_by_a_file_whose_rows_were_all_rejected(
    client: Client, insert: Insert, uploader: Uploader, refused: Callable[..., Refusal]
) -> None:
    people(insert)
    made = client.custom(name="list")
    uploader.upload(made.id, "email\nann@example.com\n")
    refusal = refused(lambda: uploader.upload(made.id, "phone\n4155552671\n12\n", mode="replace", uploadId="2"))
    assert dict(refusal.info.metadata) == {"line": "3", "problem": "no_valid_rows"}
    assert members_of(client, made.id) == {"ann"}
    rejected_upload = client.call("GetUpload", {"audienceId": made.id, "uploadId": "2"})
    assert (rejected_upload.state, dict(rejected_upload.rejected_row_counts)) == (FAILED, {"missing_country_code": 2})
    upload = uploader.upload(made.id, "email\nnobody@example.com\n", mode="replace", uploadId="3", force=True)
    assert (upload.state, members_of(client, made.id)) == (PUBLISHED, set())


def test_a_row_that_matches_only_earlier_matched_contacts_is_a_duplicate(
    client: Client, insert: Insert, uploader: Uploader
) -> None:
    people(insert)
    made = client.custom(name="list")
    data = "email,phone\nann@example.com,\n,+18005550100\nANN@EXAMPLE.COM,\nbob@example.com,\n"
    upload = uploader.upload(made.id, data)
    assert (upload.matched_row_count, upload.duplicate_row_count, upload.matched_contact_count) == (2, 2, 2)


def test_hashes_match_by_the_rules_of_the_audiences_platform(
    client: Client, insert: Insert, uploader: Uploader
) -> None:
    insert([{"id": "dot", "data": {"email": "Do.T+tag@gmail.com", "phone": "+18005550100"}}])
    plain, bare = (hashlib.sha256(text.encode()).hexdigest() for text in ("do.t+tag@gmail.com", "dot@gmail.com"))
    number, digits = (hashlib.sha256(text.encode()).hexdigest() for text in ("+18005550100", "18005550100"))
    found = {
        "meta": {plain, digits},
        "google": {bare, number},
        "tiktok": {plain, number},
        "linkedin": {plain},
    }
    for platform, matching in found.items():
        made = client.custom(name=platform, type="customer_match", customerMatch={"platform": platform})
        for index, value in enumerate((plain, bare, number, digits)):
            field = "email_sha256" if index < 2 else "phone_sha256"
            if field == "phone_sha256" and platform == "linkedin":
                continue
            upload = uploader.upload(
                made.id, f"{field}\n {value.upper()}\n", mode="replace", uploadId=f"{index}", force=True
            )
            assert upload.list_size == (value in matching), (platform, index)


def test_inactive_contacts_are_never_matched(
    client: Client, insert: Insert, uploader: Uploader, service: Service, org: str
) -> None:
    inactive = {"email": "gone@example.com"}
    [deleted, archived] = insert([{"state": state, "data": inactive} for state in ("deleted", "archived")])
    service.insert(f"{org}2", [{"id": "foreign", "data": inactive}])
    made = client.custom(name="list")
    data = f"id,email\n{deleted},\n{archived},\ncontact-foreign,\n,gone@example.com\n"
    upload = uploader.upload(made.id, data)
    assert (upload.matched_row_count, upload.unmatched_row_count) == (0, 4)


def test_the_next_upload_matches_current_contact_data(
    client: Client, insert: Insert, uploader: Uploader, service: Service, org: str
) -> None:
    people(insert)
    contacts = service.store.database["contact"]
    made = client.custom(name="list")
    numbers = itertools.count()

    def found() -> set[str]:
        data = "email\nann@example.com\nbob@example.com\nnew@example.com\n"
        uploader.upload(made.id, data, mode="replace", uploadId=str(next(numbers)))
        return members_of(client, made.id)

    def change(name: str, **fields: str) -> None:
        assert contacts.update_one({"sk": f"{org}/contact/{name}"}, {"$set": fields}).modified_count

    assert found() == {"ann", "bob"}
    change("ann", **{"data.email": "other@example.com"})
    assert found() == {"bob"}
    change("cyd", **{"data.email": "ann@example.com"})
    contacts.delete_one({"sk": f"{org}/contact/bob"})
    insert([{"id": "new", "data": {"email": "new@example.com"}}])
    assert found() == {"cyd", "new"}
    change("cyd", state="deleted")
    assert found() == {"new"}
    change("cyd", state="active")
    assert found() == {"cyd", "new"}
    contacts.update_one({"sk": f"{org}/contact/new"}, {"$unset": {"data.email": ""}})
    assert found() == {"cyd"}


def test_an_upload_that_is_repeated_answers_as_it_did_and_another_header_is_refused(
    client: Client, insert: Insert, uploader: Uploader, refused: Callable[..., Refusal]
) -> None:
    people(insert)
    made = client.custom(name="list")
    first = uploader.upload(made.id, "email\nann@example.com\n")
    assert uploader.upload(made.id, "email\nann@example.com\n") == first
    assert client.call("GetCustomAudience", {"id": made.id}).version == 1
    refusal = refused(lambda: uploader.upload(made.id, "email\nann@example.com\n", mode="remove"))
    assert (refusal.code.name, refusal.info.reason) == ("ALREADY_EXISTS", "UPLOAD_REUSED")


@pytest.mark.parametrize(
    ("fields", "field_path"),
    [
        ({"uploadId": ""}, "header.upload_id"),
        ({"uploadId": "x" * 101}, "header.upload_id"),
        ({"mode": 0}, "header.mode"),
        ({"mode": 9}, "header.mode"),
        ({"encoding": "windows-1252"}, "header.encoding"),
        ({"delimiter": "::"}, "header.delimiter"),
        ({"defaultRegion": "XX"}, "header.default_region"),
        ({"defaultRegion": "AQ"}, "header.default_region"),
        ({"hasHeader": False}, "header.columns"),
        ({"columns": [{"name": "a"}]}, "header.columns[0].field"),
        ({"columns": [{"field": "email_sha256", "name": "a"}]}, "header.columns[0].field"),
        ({"columns": [{"field": "email"}]}, "header.columns[0]"),
        ({"columns": [{"field": "email", "name": "a", "position": 1}]}, "header.columns[0]"),
        ({"columns": [{"field": "email", "position": -1}]}, "header.columns[0].position"),
        ({"columns": [{"field": "email", "position": 1001}]}, "header.columns[0].position"),
        ({"columns": [{"field": "email", "name": "x" * 1001}]}, "header.columns[0].name"),
        ({"columns": [{"field": "email", "name": " "}]}, "header.columns[0]"),
        ({"hasHeader": False, "columns": [{"field": "email", "name": "a"}]}, "header.columns[0].name"),
    ],
)
def test_an_invalid_header_is_refused_with_its_field_path(
    client: Client, uploader: Uploader, refused: Callable[..., Refusal], fields: dict[str, Any], field_path: str
) -> None:
    made = client.custom(name="list")
    refusal = refused(lambda: uploader.upload(made.id, "email\n", **fields))
    assert (refusal.code.name, refusal.fields) == ("INVALID_ARGUMENT", [field_path])


def test_an_upload_needs_a_list_of_the_org_that_takes_uploads(
    client: Client, uploader: Uploader, refused: Callable[..., Refusal], service: Service, org: str
) -> None:
    pixel = client.custom(
        name="pixel", type="retargeting_pixel", retargetingPixel={"where": {"type": "x"}, "withinDays": 3}
    )
    foreign = service.client(f"{org}2").custom(name="list")
    for audience_id, reason in ((pixel.id, "NOT_UPLOADABLE"), (foreign.id, "AUDIENCE_NOT_FOUND")):
        refusal = refused(lambda wrong=audience_id: uploader.upload(wrong, "email\n"))
        assert refusal.info.reason == reason
        refusal = refused(lambda wrong=audience_id: client.call("StreamUnmatchedRows", {"audienceId": wrong}))
        assert refusal.info.reason == reason
    made = client.custom(name="list")
    refusal = refused(lambda: client.call("GetUpload", {"audienceId": made.id, "uploadId": "no"}))
    assert (refusal.code.name, refusal.info.reason) == ("NOT_FOUND", "UPLOAD_NOT_FOUND")
    refusal = refused(lambda: client.call("GetUpload", {"audienceId": foreign.id, "uploadId": "first"}))
    assert refusal.info.reason == "AUDIENCE_NOT_FOUND"


def test_deleting_an_audience_deletes_its_uploads(
    client: Client, insert: Insert, uploader: Uploader, service: Service, org: str
) -> None:
    people(insert)
    made = client.custom(name="list")
    uploader.upload(made.id, "email\nann@example.com\nnobody@example.com\n")
    client.call("DeleteCustomAudience", {"id": made.id})
    service.store.upload_sweeper.delete_children(org, made.id, NO_DEADLINE)
    for name in ("audience_upload", "audience_upload_row"):
        assert service.store.database[name].count_documents({"sk": {"$regex": f"^{org}/"}}) == 0


def test_the_columns_may_be_named_or_counted(client: Client, insert: Insert, uploader: Uploader) -> None:
    people(insert)
    made = client.custom(name="list")
    named = {"columns": [{"field": "email", "name": " e-MAIL "}], "delimiter": ";"}
    assert uploader.upload(made.id, "n;E-mail\r\n1;ann@example.com\r\n", **named).matched_row_count == 1
    counted = {"columns": [{"field": "email", "position": 2}], "uploadId": "2", "delimiter": "\t", "hasHeader": False}
    assert uploader.upload(made.id, "1\tbob@example.com", **counted).matched_row_count == 1
    assert members_of(client, made.id) == {"ann", "bob"}
