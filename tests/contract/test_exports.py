"""What ExportIdentifiers promises, on every store."""

import hashlib
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from audience_service.pb.audience.v1.membership_service_pb2 import ExportOperation
from tests.conftest import Service
from tests.support.client import Client, Refusal

Insert = Callable[..., list[str]]
Refused = Callable[..., Refusal]

ALL_CONTACTS: dict[str, Any] = {"filter": {"datatype": "contact", "where": {}}}
META: dict[str, Any] = {**ALL_CONTACTS, "platform": "meta", "fields": ["email"]}


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def rows(messages: list[Any]) -> list[list[str]]:
    """The first value of each column; the tests of further values read the messages themselves."""
    return [list(row.values[: len(set(message.columns))]) for message in messages for row in message.rows]


def emails(*addresses: str) -> list[dict[str, Any]]:
    return [{"id": f"{n}", "data": {"email": address}} for n, address in enumerate(addresses)]


def test_a_member_is_sent_as_the_platform_takes_it(client: Client, insert: Insert) -> None:
    insert(
        [
            {
                "data": {
                    "email": " User.Name+NYC@Example.com",
                    "phone": "(800) 555-0100",
                    "firstName": "José",
                    "lastName": "O'Brien",
                    "birthday": "1990-05-17",
                    "sex": "Male",
                    "address": [
                        {"city": "San Francisco", "region": "California", "zip": "94107-1234", "country": "US"}
                    ],
                }
            }
        ]
    )
    [message, last] = list(client.call("ExportIdentifiers", {**ALL_CONTACTS, "platform": "meta"}))
    assert dict(zip(dict.fromkeys(message.columns), rows([message])[0], strict=True)) == {
        "EMAIL": "f109a2a632fbcea5fc82049f50beed3d8621bf9034399f437fb622222acccdac",
        "PHONE": "92cfdc5fbcd4a20fbe5d3857af6c1aba31762105bba7f21a17155e920653046c",
        "FN": sha256("josé"),
        "LN": sha256("obrien"),
        "COUNTRY": "79adb2a2fce5c6ba215fe5f27f532d4e7edbac4b6a5e09e1ef3a08084a904621",
        "ZIP": sha256("94107"),
        "CT": sha256("sanfrancisco"),
        "ST": sha256("ca"),
        "DOBY": sha256("1990"),
        "DOBM": sha256("05"),
        "DOBD": sha256("17"),
        "GEN": sha256("m"),
    }
    assert (message.rules_version, message.batch_index, message.last_in_batch) == ("meta/2026-12", 0, True)
    assert message.operation == ExportOperation.EXPORT_OPERATION_ADD
    assert (last.readiness.valid_count, last.readiness.minimum_count, last.readiness.minimum_met) == (1, 100, False)


def test_rows_come_in_order_once_for_each_member_and_readiness_last(client: Client, insert: Insert) -> None:
    insert(emails("b@example.com", "", "a@example.com", "B@example.com", "no email"))
    messages = list(client.call("ExportIdentifiers", META))
    assert rows(messages) == [[sha256(f"{name}@example.com")] for name in "bab"]
    assert [message.HasField("readiness") for message in messages] == [False] * (len(messages) - 1) + [True]
    ready = messages[-1].readiness
    assert (ready.member_count, ready.consented_count, ready.with_identifier_count) == (5, 5, 4)
    assert (ready.valid_count, ready.distinct_count) == (3, 2)
    assert [(found.field, found.count) for found in ready.invalid] == [("email", 1)]


def test_an_empty_audience_has_no_rows(client: Client) -> None:
    [last] = list(client.call("ExportIdentifiers", META))
    assert (len(last.rows), last.readiness.member_count, last.readiness.HasField("distinct_count")) == (0, 0, True)


def test_exclusions_are_counted_by_the_first_reason(client: Client, insert: Insert) -> None:
    ids = insert(
        [
            {"id": "0", "data": {"email": "0@example.com"}},
            {"id": "1", "data": {"email": "1@example.com"}},
            {"id": "2", "data": {"email": "2@example.com", "status": "unsubscribed"}},
            {"id": "3", "data": {"email": "3@example.com", "status": "unsubscribed"}},
        ]
    )
    listed = client.create(name="listed", type="static", contactIds=[ids[1], ids[2]])
    messages = list(client.call("ExportIdentifiers", {**META, "excludeAudienceIds": [listed.id]}))
    assert rows(messages) == [[sha256("0@example.com")]]
    ready = messages[-1].readiness
    counted = {found.reason: found.count for found in ready.exclusions}
    assert counted == {"excluded": 2, "complained": 0, "unsubscribed": 1}
    assert (ready.member_count, ready.consented_count) == (4, 1)


def test_only_plain_consent_in_every_field_is_consent(service: Service, client: Client, insert: Insert) -> None:
    stored_values = [
        True,
        "granted",
        "GRANTED",
        "yes",
        "true",
        False,
        "denied",
        "",
        "no",
        1,
        [True],
        {"ads": True},
        None,
    ]
    insert(
        [
            {"id": f"{n:02}", "data": {"email": f"{n}@example.com", "ads": value, "past": [{"ads": value}]}}
            for n, value in enumerate(stored_values)
        ]
    )
    if service.kind == "embedded":
        with pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):
            list(client.call("ExportIdentifiers", {**META, "consentFields": ["ads"]}))
        return
    messages = list(client.call("ExportIdentifiers", {**META, "consentFields": ["ads"]}))
    assert rows(messages) == [[sha256(f"{n}@example.com")] for n in range(5)]
    for lacking in (["ads", "data.other"], ["past.ads"], ["past"]):
        both = list(client.call("ExportIdentifiers", {**META, "consentFields": lacking}))
        assert rows(both) == []
        last = both[-1].readiness
        assert (last.exclusions[-1].reason, last.exclusions[-1].count) == ("no_consent", len(stored_values))
        assert (last.member_count, last.consented_count) == (len(stored_values), 0)


def test_unions_and_lists_export_like_filters(client: Client, insert: Insert) -> None:
    ids = insert(emails("a@example.com", "b@example.com", "c@example.com"))
    first = client.create(name="first", type="static", contactIds=ids[:2])
    second = client.create(name="second", filter={"datatype": "contact", "where": {"email": {"$gte": "b"}}})
    request = {"platform": "tiktok", "fields": ["email"]}
    alone = list(client.call("ExportIdentifiers", {**request, "audienceId": first.id}))
    assert rows(alone) == [[sha256("a@example.com")], [sha256("b@example.com")]]
    both = list(client.call("ExportIdentifiers", {**request, "audienceIds": [first.id, second.id]}))
    assert rows(both) == [[sha256(f"{name}@example.com")] for name in "abc"]


def test_options_resolve_conflicts_and_are_returned(client: Client, insert: Insert) -> None:
    insert([{"data": {"phone": "+18005550100", "email": "a.b+c@example.com"}}])
    request = {**ALL_CONTACTS, "platform": "tiktok", "fields": ["phone"]}
    [by_default, _] = list(client.call("ExportIdentifiers", request))
    [without, last] = list(client.call("ExportIdentifiers", {**request, "options": {"phone_plus": "no"}}))
    assert rows([by_default]) == [["fb4f73a6ec5fdb7077d564cdd22c3554b43ce49168550c3b12c547b78c517b30"]]
    assert rows([without]) == [["92cfdc5fbcd4a20fbe5d3857af6c1aba31762105bba7f21a17155e920653046c"]]
    assert dict(by_default.options) == {"phone_plus": "yes", "email_alias": "keep"}
    assert dict(without.options) == dict(last.options) == {"phone_plus": "no", "email_alias": "keep"}
    again = {**request, "rulesVersion": without.rules_version, "options": dict(without.options)}
    assert rows(list(client.call("ExportIdentifiers", again))) == rows([without])


@pytest.mark.parametrize(
    ("request_", "columns"),
    [
        ({"platform": "google"}, [
            "hashed_email", "hashed_phone_number", "address_info.hashed_first_name", "address_info.hashed_last_name",
            "address_info.country_code", "address_info.postal_code",
        ]),
        ({"platform": "google", "options": {"api": "data_manager"}, "fields": ["phone", "email", "phone"]}, [
            "phone_number", "email_address",
        ]),
        ({"platform": "tiktok"}, ["EMAIL_SHA256", "PHONE_SHA256"]),
        ({"platform": "linkedin"}, ["SHA256_EMAIL", "firstName", "lastName", "country"]),
    ],
)  # fmt: skip
def test_columns_have_the_platforms_names_in_the_order_asked(
    client: Client, request_: dict[str, Any], columns: list[str]
) -> None:
    [last] = list(client.call("ExportIdentifiers", {**ALL_CONTACTS, **request_}))
    assert list(dict.fromkeys(last.columns)) == columns


def test_google_gets_a_complete_address_or_none(client: Client, insert: Insert) -> None:
    person = {"firstName": "Ann", "lastName": "Lee", "country": "GB", "zip": "SW1A 1AA"}
    insert([{"id": "0", "data": person}, {"id": "1", "data": {**person, "zip": "", "email": "a@example.com"}}])
    [message, last] = list(client.call("ExportIdentifiers", {**ALL_CONTACTS, "platform": "google"}))
    assert rows([message]) == [
        ["", "", sha256("ann"), sha256("lee"), "GB", "SW1A 1AA"],
        [sha256("a@example.com"), "", "", "", "", ""],
    ]
    assert last.readiness.valid_count == 2


def test_numbers_without_a_country_code_are_of_the_region_or_the_contacts_country(
    client: Client, insert: Insert
) -> None:
    insert(
        [{"id": "0", "data": {"phone": "8005550100", "country": "USA"}}, {"id": "1", "data": {"phone": "8005550100"}}]
    )
    request = {**ALL_CONTACTS, "platform": "google", "fields": ["phone"]}
    free = "fb4f73a6ec5fdb7077d564cdd22c3554b43ce49168550c3b12c547b78c517b30"
    [message, last] = list(client.call("ExportIdentifiers", request))
    assert (rows([message]), last.readiness.invalid[0].count) == ([[free]], 1)
    assert rows(list(client.call("ExportIdentifiers", {**request, "defaultRegion": "us"}))) == [[free], [free]]


def test_a_resumed_stream_reports_complete_counts(client: Client, insert: Insert) -> None:
    insert(emails("a@example.com", "b@example.com", "a@example.com", "nothing"))
    [message, last] = list(client.call("ExportIdentifiers", META))
    for cursor in (message.cursor, last.cursor):
        [again] = list(client.call("ExportIdentifiers", {**META, "cursor": cursor}))
        assert (again.readiness, len(again.rows)) == (last.readiness, 0)
    insert([{"id": "9", "data": {"email": "late@example.com"}}])
    [late, _] = list(client.call("ExportIdentifiers", {**META, "cursor": message.cursor}))
    assert (rows([late]), late.batch_index) == ([[sha256("late@example.com")]], 1)


@pytest.mark.parametrize(
    "change",
    [
        {"fields": ["email", "phone"]},
        {"platform": "tiktok"},
        {"defaultRegion": "US"},
        {"consentFields": ["ads"]},
        {"purpose": "email"},
        {"filter": {"datatype": "contact", "where": {"country": "US"}}},
    ],
)
def test_a_cursor_is_bound_to_its_stream(
    client: Client, insert: Insert, refused: Refused, change: dict[str, Any]
) -> None:
    insert(emails("a@example.com"))
    cursor = next(iter(client.call("ExportIdentifiers", META))).cursor
    refusal = refused(lambda: client.call("ExportIdentifiers", {**META, **change, "cursor": cursor}))
    assert (refusal.info.reason, refusal.fields) == ("INVALID_PAGE_TOKEN", ["cursor"])


@pytest.mark.parametrize(
    ("request_", "field", "advice"),
    [
        ({"platform": ""}, "platform", "meta, google, tiktok, linkedin"),
        ({"platform": "facebook"}, "platform", "meta, google, tiktok, linkedin"),
        ({"rulesVersion": "meta/1999-01"}, "rules_version", "meta/2026-11"),
        ({"rulesVersion": "google/2026-11"}, "rules_version", "meta/2026-11"),
        ({"platform": "linkedin", "options": {"plus": "no"}}, "options.plus", "email_spaces"),
        ({"platform": "tiktok", "options": {"plus": "no"}}, "options.plus", "phone_plus"),
        ({"platform": "tiktok", "options": {"phone_plus": "maybe"}}, "options.phone_plus", "yes, no"),
        ({"fields": ["email", "fax"]}, "fields[1]", "birth_year"),
        ({"platform": "tiktok", "fields": ["country"]}, "fields[0]", "email, phone"),
        ({"fields": ["country", "first_name"]}, "fields", "email, or phone, or first_name with last_name"),
        ({"platform": "google", "fields": ["email", "zip"]}, "fields", "first_name, last_name, country, zip"),
        ({"platform": "google", "fields": ["email", "advertising_id"]}, "fields", "use two lists"),
        ({"platform": "linkedin", "fields": ["company_name", "email"]}, "fields", "use two lists"),
        ({"defaultRegion": "Nowhere"}, "default_region", "such as US"),
        ({"consentFields": ["a..b"]}, "consent_fields[0]", "single dots"),
        ({"consentFields": ["x"] * 51}, "consent_fields", "the limit is 50"),
        ({"purpose": "fax"}, "purpose", "ads"),
    ],
)
def test_a_bad_request_is_refused_with_a_correction(
    client: Client, refused: Refused, request_: dict[str, Any], field: str, advice: str
) -> None:
    refusal = refused(lambda: client.call("ExportIdentifiers", {**META, **request_}))
    assert (refusal.info.reason, refusal.fields) == ("INVALID_FIELD", [field])
    assert advice in refusal.message


def test_no_org_exports_another(service: Service, org: str, client: Client, refused: Refused) -> None:
    service.insert(f"{org}2", emails("theirs@example.com"))
    theirs = service.client(f"{org}2").create(name="theirs", filter=ALL_CONTACTS["filter"])
    service.insert(org, emails("ours@example.com"))
    assert rows(list(client.call("ExportIdentifiers", META))) == [[sha256("ours@example.com")]]
    for request in (
        {"audienceId": theirs.id},
        {"audienceIds": [theirs.id]},
        {**ALL_CONTACTS, "excludeAudienceIds": [theirs.id]},
    ):
        refusal = refused(lambda request=request: client.call("ExportIdentifiers", {**request, "platform": "meta"}))
        assert refusal.info.reason == "AUDIENCE_NOT_FOUND"
