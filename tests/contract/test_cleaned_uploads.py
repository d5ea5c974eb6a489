"""Uploads whose values people wrote in other ways than records do, and lists that a bad file must not empty."""

import hashlib
from collections.abc import Callable

import pytest

from tests.conftest import Service
from tests.support.client import Client, Refusal
from tests.support.lists import NO_DEADLINE
from tests.support.uploads import FAILED, PUBLISHED, Uploader, emails

Insert = Callable[..., list[str]]
Refused = Callable[..., Refusal]


@pytest.fixture
def uploader(client: Client) -> Uploader:
    return Uploader(client)


def members_of(client: Client, audience_id: str) -> set[str]:
    return {member.removeprefix("contact-") for member in client.members(audienceId=audience_id)}


def people(insert: Insert, *names: str) -> None:
    insert([{"id": name, "data": {"email": f"{name}@example.com"}} for name in names])


def test_a_replacement_that_would_empty_or_shrink_the_list_needs_force(
    client: Client, insert: Insert, uploader: Uploader, refused: Refused
) -> None:
    people(insert, "a", "b", "c", "d", "e")
    made = client.custom(name="list")
    uploader.upload(made.id, emails("a", "b", "c", "d"))
    for number, (data, problem) in enumerate(
        [
            (emails("nobody", "noone"), "would_empty_list"),
            (b"email\nmailto:x@example.com\n<y@example.com>\n", "would_empty_list"),
            (emails("a", "nobody"), "would_shrink_list"),
        ]
    ):
        options = {"mode": "replace", "uploadId": f"r{number}"}
        refusal = refused(lambda data=data, options=options: uploader.upload(made.id, data, **options))
        assert (refusal.code.name, refusal.info.metadata["problem"]) == ("INVALID_ARGUMENT", problem)
        assert "set force" in refusal.message
        stored = client.call("GetUpload", {"audienceId": made.id, "uploadId": f"r{number}"})
        assert (stored.state, stored.unmatched_row_count > 0) == (FAILED, True)
        assert members_of(client, made.id) == {"a", "b", "c", "d"}
    assert uploader.upload(made.id, emails("a", "e"), mode="replace", uploadId="half").list_size == 2
    forced = uploader.upload(made.id, emails("nobody"), mode="replace", uploadId="forced", force=True)
    assert (forced.state, members_of(client, made.id)) == (PUBLISHED, set())
    again = uploader.upload(made.id, emails("nobody"), mode="replace", uploadId="empty")
    assert again.state == PUBLISHED, "an empty list loses nobody"


def test_a_refused_replacement_stays_refused_and_leaves_no_rows(
    client: Client, insert: Insert, uploader: Uploader, refused: Refused, service: Service, org: str
) -> None:
    people(insert, "a")
    made = client.custom(name="list")
    uploader.upload(made.id, emails("a"))
    for _ in range(2):
        refusal = refused(lambda: uploader.upload(made.id, emails("nobody"), mode="replace", uploadId="r"))
        assert refusal.info.reason == "INVALID_FILE"
    assert service.store.database["audience_upload_row"].count_documents({"sk": {"$regex": f"^{org}/"}}) == 0
    assert client.call("GetCustomAudience", {"id": made.id}).version == 1


def test_every_rejected_row_is_listed_by_line_and_reason(
    client: Client, insert: Insert, uploader: Uploader, refused: Refused, service: Service, org: str
) -> None:
    people(insert, "ann")
    made = client.custom(name="list")
    bad = "".join(f"{'x' if line % 3 else 'a@b.1'},\n" for line in range(2, 152))
    upload = uploader.upload(made.id, f"email,note\n{bad}ann@example.com,1,2\nann@example.com,\n")
    assert (len(upload.rejections), upload.matched_row_count) == (100, 1)
    request = {"audienceId": made.id, "uploadId": "first", "pageSize": 60}
    found, token, pages = [], "", 0
    while token or not pages:
        page = client.call("ListRejectedRows", {**request, "pageToken": token})
        assert page.total_size == 151
        found += [(each.line, each.column, each.reason) for each in page.rejections]
        token, pages = page.next_page_token, pages + 1
    expected = [(line, "email", "invalid_email" if line % 3 else "invalid_email_domain") for line in range(2, 152)]
    assert (found, pages) == ([*expected, (152, "", "ragged_row")], 3)
    page = client.call("ListRejectedRows", {**request, "reason": "ragged_row"})
    assert [each.description for each in page.rejections] == [
        "has 3 cells, but the first row has 2; quote cells with delimiters, without a space before the quote"
    ]
    refusal = refused(lambda: client.call("ListRejectedRows", {**request, "reason": "odd"}))
    assert refusal.fields == ["reason"]
    refusal = refused(lambda: client.call("ListRejectedRows", {**request, "uploadId": "other"}))
    assert refusal.info.reason == "UPLOAD_NOT_FOUND"
    foreign = service.client(f"{org}2")
    refusal = refused(lambda: foreign.call("ListRejectedRows", request))
    assert refusal.info.reason == "AUDIENCE_NOT_FOUND"
    client.call("DeleteCustomAudience", {"id": made.id})
    service.store.upload_sweeper.delete_children(org, made.id, NO_DEADLINE)
    assert service.store.database["audience_upload_rejection"].count_documents({"sk": {"$regex": f"^{org}/"}}) == 0


def test_changes_to_values_are_counted_by_kind(client: Client, insert: Insert, uploader: Uploader) -> None:
    people(insert, "ann", "bob")
    made = client.custom(name="list")
    data = 'email\nmailto:ann@example.com\n"Bob <bob@example.com>"\nbob@example.com;\nann@example.com\nmailto:none\n'
    upload = uploader.upload(made.id, data)
    assert dict(upload.changed_row_counts) == {"display_name": 1, "punctuation": 1, "uri_prefix": 1}
    assert (upload.matched_row_count, upload.duplicate_row_count) == (2, 2)


@pytest.mark.parametrize(
    ("stored", "uploaded"),
    [
        ({"email": "jos\u00e9@example.com"}, "jose\u0301@example.com"),
        ({"email": "jose\u0301@example.com"}, "jos\u00e9@example.com"),
        ({"email": "x@b\u00fccher.example"}, "x@xn--bcher-kva.example"),
        ({"email": "x@xn--bcher-kva.example"}, "x@B\u00dcCHER.example"),
        ({"email": ["a@example.com", "b@example.com"]}, "b@example.com"),
        ({"email": ["bad", "b@example.com"]}, "b@example.com"),
        ({"email": "a@example.com; b@example.com"}, "b@example.com"),
        ({"email": "a@example.com", "emails": [{"type": "home", "value": "b@example.com"}]}, "b@example.com"),
        ({"email": "a@example.com", "secondaryEmail": "b@example.com"}, "b@example.com"),
        ({"email": ' ="b@example.com" '}, "b@example.com"),
    ],
)
def test_a_row_matches_by_each_address_of_a_contact_in_any_form(
    client: Client, insert: Insert, uploader: Uploader, stored: dict[str, object], uploaded: str
) -> None:
    insert([{"id": "ann", "data": stored}, {"id": "other", "data": {"email": "other@example.com"}}])
    made = client.custom(name="list")
    uploader.upload(made.id, f"email\n{uploaded}\n")
    assert members_of(client, made.id) == {"ann"}


@pytest.mark.parametrize(
    ("stored", "uploaded"),
    [
        ({"phone": "+525541637145"}, "+5215541637145"),
        ({"phone": "+52 1 55 4163 7145"}, "+525541637145"),
        ({"phone": "(11) 8765-4321", "country": "Brasil"}, "+5511987654321"),
        ({"phone": "+22507123456"}, "+2250707123456"),
        ({"phone": ["+18005550100", "+442079460958"]}, "+44 20 7946 0958"),
        ({"phone": "+18005550100", "mobile": "+442079460958"}, "+44 20 7946 0958"),
        ({"phone": "020 7946 0958", "country": "U.K."}, "+442079460958"),
    ],
)
def test_a_row_matches_by_each_number_of_a_contact_in_any_plan(
    client: Client, insert: Insert, uploader: Uploader, stored: dict[str, object], uploaded: str
) -> None:
    insert([{"id": "ann", "data": stored}])
    made = client.custom(name="list")
    assert uploader.upload(made.id, f"phone\n{uploaded}\n").matched_row_count == 1


def test_an_exclusion_list_of_second_addresses_excludes_their_contacts(
    client: Client, insert: Insert, uploader: Uploader
) -> None:
    insert([{"id": "ann", "data": {"email": ["a@example.com", "b@example.com"]}}])
    people(insert, "bob")
    made = client.custom(name="excluded")
    uploader.upload(made.id, "email\nb@example.com\n")
    kept = client.members(filter={"datatype": "contact", "where": {}}, excludeAudienceIds=[made.id])
    assert kept == ["contact-bob"]


def test_hashes_under_a_plain_header_match_in_a_customer_match(
    client: Client, insert: Insert, uploader: Uploader
) -> None:
    insert([{"id": "ann", "data": {"email": ["x@example.com", "A.nn+1@gmail.com"], "phone": "+18005550100"}}])
    people(insert, "bob")
    made = client.custom(name="google", type="customer_match", customerMatch={"platform": "google"})
    digest, phone = (hashlib.sha256(text.encode()).hexdigest() for text in ("ann@gmail.com", "+18005550100"))
    for number, data in enumerate((f"Email,Phone\n{digest.upper()},\n", f"Email,Phone\n,{phone}\n")):
        upload = uploader.upload(made.id, data, uploadId=str(number))
        assert (upload.matched_contact_count, dict(upload.rejected_row_counts)) == (1, {})
    mixed = uploader.upload(made.id, f"Email,Phone\nbob@example.com,\n{digest},\n", uploadId="mixed")
    assert mixed.matched_row_count == 2


def test_control_characters_leave_the_service_replaced(client: Client, insert: Insert, uploader: Uploader) -> None:
    people(insert, "ann")
    made = client.custom(name="list")
    uploader.upload(made.id, "email,note\nnobody@example.com,a\x1b[2Jb\n")
    for unescaped, shown in ((False, "a\ufffd[2Jb"), (True, "a\x1b[2Jb")):
        first = next(iter(client.call("StreamUnmatchedRows", {"audienceId": made.id, "unescapedFormulas": unescaped})))
        assert list(first.rows[0].cells) == ["nobody@example.com", shown]
