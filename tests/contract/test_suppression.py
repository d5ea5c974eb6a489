"""Who must not be reached for a purpose: by example, by either way of looking, and against a plain model of it."""

import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from audience_service.mongo.query import suppression as suppression
from tests.conftest import Service
from tests.contract.test_unions import contact_filter, exclusions
from tests.support.client import Client, Refusal
from tests.support.examples import examples

Insert = Callable[..., list[str]]
Refused = Callable[..., Refusal]

_REASONS = ("complained", "bounced", "unsubscribed")
_STATUSES = (*_REASONS, "active", "pending", None)
_PURPOSES: dict[str, tuple[set[str], dict[str, set[str]]]] = {
    "email": (set(_REASONS), {"email": set(_REASONS)}),
    "sms": ({"complained", "unsubscribed"}, {"sms": set(_REASONS)}),
    "ads": (
        {"complained", "unsubscribed"},
        {channel: {"complained", "unsubscribed"} for channel in ("email", "sms")},
    ),
}
"""By purpose: the statuses of a contact, and of a subscriber by channel, that leave it out."""
_LETTERS = "abcd"


def _email(rng: random.Random) -> Any:
    """An address in some way of writing it, or none."""
    letter = rng.choice(_LETTERS)
    plain = f"{letter}@example.com"
    return rng.choice([plain, plain, f" {letter.upper()}@Example.com ", [plain, "z@example.com"], None, 7])


def _phone(rng: random.Random) -> Any:
    digit = rng.choice("0123")
    return rng.choice([f"+1415555010{digit}", f"+1 (415) 555-010{digit}", None])


def _plain(value: Any) -> set[str]:
    """The addresses in a value."""
    texts = [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]
    return {text.strip().lower().translate(str.maketrans("", "", " -()")) for text in texts}


def _reason(contact: dict[str, Any], records: list[dict[str, Any]], purpose: str) -> str:
    """The gravest reason to leave a contact out, empty where there is none."""
    own, by_channel = _PURPOSES[purpose]
    found = {contact["status"]} & own
    for channel, statuses in by_channel.items():
        field = "email" if channel == "email" else "phone"
        addresses = _plain(contact.get(field))
        found |= {
            record["status"]
            for record in records
            if record["channel"] == channel and record.get(field) in addresses and record["status"] in statuses
        }
    return next((reason for reason in _REASONS if reason in found), "")


@pytest.mark.parametrize("how", ["read", "looked up"])
@examples(12, HealthCheck.function_scoped_fixture)
@given(seed=st.integers(0, 10_000), purpose=st.sampled_from(sorted(_PURPOSES)), subscribed=st.integers(0, 12))
def test_members_and_exclusions_equal_the_reference_model(
    real_service: Service, monkeypatch: pytest.MonkeyPatch, how: str, seed: int, purpose: str, subscribed: int
) -> None:
    if how == "looked up":
        monkeypatch.setattr(suppression, "MAX_ADDRESSES", 0)
    rng = random.Random(seed)
    org = f"suppressed{seed}-{next(real_service.names)}"
    contacts: list[dict[str, Any]] = [
        {"n": n, "status": rng.choice(_STATUSES), "email": _email(rng), "phone": _phone(rng)} for n in range(40)
    ]
    records: list[dict[str, Any]] = [
        {
            "channel": rng.choice(("email", "sms")),
            "status": rng.choice(_STATUSES),
            "email": f"{rng.choice(_LETTERS)}@example.com",
            "phone": f"+1415555010{rng.choice('0123')}",
        }
        for _ in range(subscribed)
    ]
    ids = real_service.insert(org, [{"data": data} for data in contacts])
    if records:
        real_service.insert(org, [{"data": data} for data in records], "subscriber")
    client: Client = real_service.client(org)
    out = client.create(name="out", filter={"datatype": "contact", "where": {"n": {"$lt": 8}}}).id
    reasons = {
        pk: "excluded" if data["n"] < 8 else _reason(data, records, purpose)
        for pk, data in zip(ids, contacts, strict=True)
    }
    request = {
        "filter": {"datatype": "contact", "where": {}},
        "excludeAudienceIds": [out],
        "purpose": purpose,
    }
    expected = sorted(pk for pk, reason in reasons.items() if not reason)
    assert client.members(**request) == expected
    parts = [client.members(**request, partition={"index": index, "count": 3}) for index in range(3)]
    assert list(itertools.chain(*parts)) == expected
    *_, last = client.call("StreamMembers", request)
    counted = {found.reason: found.count for found in last.totals.exclusions}
    assert counted == {reason: sum(found == reason for found in reasons.values()) for reason in counted}
    assert sum(counted.values()) + len(expected) == len(ids)


@pytest.mark.parametrize("how", ["read", "looked up"])
def test_exclusions_of_a_purpose_are_counted_once_by_the_most_severe_reason(
    service: Service,
    org: str,
    client: Client,
    insert: Insert,
    refused: Refused,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    if how == "looked up":
        monkeypatch.setattr(suppression, "MAX_ADDRESSES", 0)
    insert(
        [
            {"id": "fine", "data": {"email": "fine@example.com", "phone": "+14155550100", "status": "active"}},
            {"id": "gone", "data": {"status": "unsubscribed"}},
            {"id": "back", "data": {"email": "back@example.com", "status": "bounced"}},
            {"id": "case", "data": {"email": " Case@Example.com "}},
            {"id": "asis", "data": {"email": ["x@example.com", "As@It.Is"]}},
            {"id": "both", "data": {"email": "both@example.com", "status": "unsubscribed"}},
            {"id": "text", "data": {"phone": "+1 (415) 555-0101", "email": "text@example.com"}},
            {"id": "wait", "data": {"email": "wait@example.com"}},
            {"id": "away", "state": "archived", "data": {"status": "bounced"}},
        ]
    )
    records = [
        {"email": "case@example.com", "channel": "email", "status": "bounced"},
        {"email": "As@It.Is", "channel": "email", "status": "bounced"},
        {"email": "both@example.com", "channel": "email", "status": "complained"},
        {"email": "both@example.com", "channel": "email", "status": "unsubscribed"},
        {"phone": "+14155550101", "channel": "sms", "status": "unsubscribed"},
        {"email": "text@example.com", "channel": "email", "status": "active"},
        {"email": "wait@example.com", "channel": "email", "status": "pending"},
        {"channel": "email", "status": "unsubscribed"},
    ]
    service.insert(org, [{"data": data} for data in records], "subscriber")
    service.insert(org, [{"state": "deleted", "data": {**records[0], "email": "fine@example.com"}}], "subscriber")
    service.insert(f"{org}2", [{"data": {**records[0], "email": "fine@example.com"}}], "subscriber")
    if service.kind == "embedded":
        refusal = refused(lambda: client.call("StreamMembers", {"filter": contact_filter(), "purpose": "email"}))
        assert refusal.info.reason == "UNSUPPORTED_BY_STORE"
        return
    expected: dict[str, tuple[set[str], dict[str, int]]] = {
        "email": ({"fine", "text", "wait"}, {"complained": 1, "bounced": 3, "unsubscribed": 1}),
        "sms": ({"fine", "back", "case", "asis", "wait"}, {"complained": 0, "bounced": 0, "unsubscribed": 3}),
        "ads": ({"fine", "back", "case", "asis", "wait"}, {"complained": 1, "unsubscribed": 2}),
    }
    for purpose, (members, left_out) in expected.items():
        request = {"filter": contact_filter(), "purpose": purpose}
        assert {found.removeprefix("contact-") for found in client.members(**request)} == members
        assert exclusions(client, **request) == left_out
        assert len(members) + sum(left_out.values()) == len(client.members(filter=contact_filter()))


ADDRESSES: list[Any] = ["a@b.cd", " A@B.CD\t", "x@y.zz", "", " ", None, 7, 7.0, True, ["a@b.cd", 7], [["x@y.zz"]], {}]
ADDRESSES += [[], [None], {"value": "a@b.cd"}, [{"of": 1}], "+1 (415) 555", "+1415555", "a" * 2_000, "a\0b", "/a@b.cd/"]
ADDRESSES += [
    "mailto:X@Y.zz",
    "Al <al@b.cd>; n/a",
    "\u200bq@b.cd",
    "+4915123456789",
    "+49 (0)151 23456789",
    4915123456789,
]


def test_prefetched_addresses_and_lookups_exclude_the_same_members(
    real_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Addresses in every form and of every type count alike, whether they are read or looked up."""
    client = real_service.client("addresses")
    ids = real_service.insert("addresses", [{"data": {"email": value, "phone": value}} for value in ADDRESSES] + [{}])
    statuses = itertools.cycle(["complained", "unsubscribed", "active", ["unsubscribed", 7]])
    for number, value in enumerate(reversed(ADDRESSES)):
        channel, path = [("email", "email"), ("sms", "phone")][number % 2]
        record = {"data": {path: value, "channel": channel, "status": next(statuses)}}
        real_service.insert("addresses", [record], "subscriber")
    request = {"filter": contact_filter(), "purpose": "ads"}
    read = client.members(**request), exclusions(client, **request)
    monkeypatch.setattr(suppression, "MAX_ADDRESSES", 0)
    assert read == (client.members(**request), exclusions(client, **request))
    assert 0 < len(read[0]) < len(ids)


def test_slow_address_prefetch_falls_back_to_lookup(real_service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    client = real_service.client("hurried")
    real_service.insert("hurried", [{"data": {"email": "a@b.c"}}, {"data": {"email": "x@y.z"}}])
    data = {"email": "a@b.c", "channel": "email", "status": "unsubscribed"}
    real_service.insert("hurried", [{"data": data}], "subscriber")
    monkeypatch.setattr(suppression, "READ_TIMEOUT_SECONDS", 0)
    assert len(client.members(filter=contact_filter(), purpose="ads")) == 1


CONSENT: dict[str, list[tuple[Any, dict[str, Any]]]] = {
    "email": [
        ("ANN1@X.ORG", {"email": "ann1@x.org"}),
        ("ann2@x.org", {"email": "Ann2@X.org"}),
        (" Ann3@x.org ", {"email": "ann3@x.org"}),
        ("mailto:ann4@x.org", {"email": "ann4@x.org"}),
        ("Ann <Ann5@x.org>", {"email": "ann5@x.org"}),
        ("ann6@x.org", {"email": "Ann <ann6@x.org>"}),
        ("ann7@x.org;", {"email": "mailto:Ann7@x.org?subject=Hi"}),
        ("ann8@x.org", {"email": "n/a; ann8@x.org"}),
        ("ann9@x.org\u200b", {"email": "\ufeffann9@x.org"}),
        ("x@b\u00fccher.example", {"email": "x@xn--bcher-kva.example"}),
        ("y@xn--bcher-kva.example", {"email": "y@b\u00fccher.example"}),
        ("jose\u0301@x.org", {"email": "jos\u00e9@x.org"}),
        ("zo\u00e9@x.org", {"email": "zoe\u0301@x.org"}),
        (["none@x.org", "Bob1@x.org"], {"email": "bob1@x.org"}),
        ({"value": "bob2@x.org"}, {"email": {"address": "bob2@x.org"}}),
        ("bob3@x.org", {"email": "n@x.org", "email2": "Bob3@x.org"}),
        ("bob4@x.org", {"email": "n@x.org", "emails": [{"type": "work", "value": "bob4@x.org"}]}),
        ("bob5@x.org", {"emails": ["n@x.org", "bob5@x.org"]}),
        ("bob6@x.org", {"email3": "bob6@x.org"}),
        ("bob7@x.org", {"secondaryEmail": " bob7@x.org"}),
        ("not an address", {"email": "Not an address"}),
        ("O'Brien@x.org", {"email": "o'brien@x.org"}),
    ],
    "sms": [
        ("+1 202 555 0100", {"phone": "+12025550100"}),
        ("+12025550102", {"phone": "12025550102"}),
        ("0012025550103", {"phone": "+1 (202) 555-0103"}),
        ("12025550104", {"phone": "+12025550104"}),
        (12025550105, {"phone": "+12025550105"}),
        ("+12025550106", {"phone": 12025550106.0}),
        ("tel:+1-202-555-0107", {"phone": "+12025550107"}),
        ("+12025550108", {"phone": "+442079460958", "mobile": "(202) 555-0108", "country": "US"}),
        ("+491701234560", {"phones": [{"number": "0170 / 1234560"}], "address": {"country": "Germany"}}),
        ("+491701234561", {"mobilePhone": "+49 (0) 170 1234561"}),
        ("0170 1234562", {"phone2": "+491701234562"}),
        ("+5215541637145", {"phone": "+525541637145"}),
        ("+525541637146", {"phone3": "+52 1 55 4163 7146"}),
        ("+551187654321", {"phone": "+5511987654321"}),
        ("+12025550109", {"phone": "+442079460000; +1 202 555 0109"}),
        ("+390612345678", {"phone": "06 12345678", "country": "it"}),
    ],
}
"""By channel: the address of a subscriber, and a contact that has it."""
NEIGHBOURS: dict[str, list[dict[str, Any]]] = {
    "email": [{"email": "nn1@x.org"}, {"email": "brien@x.org"}, {"email": "ann1@x.org.uk"}, {"email": ""}, {}],
    "sms": [{"phone": "+12025550190"}, {"phone": "202555010"}, {"phone": "1701234560", "country": "US"}, {"phone": ""}],
}
"""Contacts without any of these addresses."""


@pytest.mark.parametrize("how", ["read", "looked up"])
@pytest.mark.parametrize("channel", ["email", "sms"])
def test_consent_matches_every_address_of_a_contact_in_any_form(
    real_service: Service, monkeypatch: pytest.MonkeyPatch, channel: str, how: str
) -> None:
    """A contact is left out if any of its addresses unsubscribed, however either record writes it."""
    if how == "looked up":
        monkeypatch.setattr(suppression, "MAX_ADDRESSES", 0)
    org = f"consent{next(real_service.names)}x"
    others = real_service.insert(org, [{"data": data} for data in NEIGHBOURS[channel]])
    expected = real_service.insert(org, [{"data": contact} for _, contact in CONSENT[channel]])
    statuses = itertools.cycle(["unsubscribed", "Unsubscribed", "UNSUBSCRIBED"])
    path = "email" if channel == "email" else "phone"
    for address, _ in [*CONSENT[channel], ("", {}), (None, {})]:
        country = {"country": "DE"} if address == "0170 1234562" else {}
        record = {path: address, "channel": channel, "status": next(statuses), **country}
        real_service.insert(org, [{"data": record}], "subscriber")
    client = real_service.client(org)
    assert client.members(filter=contact_filter(), purpose=channel) == sorted(others)
    assert exclusions(client, filter=contact_filter(), purpose=channel)["unsubscribed"] == len(expected)


def test_too_many_unusual_addresses_are_refused_with_the_cure(
    real_service: Service, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    """Addresses that cannot be read are never taken as consent."""
    monkeypatch.setattr(suppression, "MAX_ADDRESSES", 2)
    monkeypatch.setattr(suppression, "MAX_UNUSUAL_ADDRESSES", 2)
    client = real_service.client("unusual")
    real_service.insert("unusual", [{"data": {"email": f"{name}@x.org"}} for name in "abc"])
    for address in ("A@x.org", "b@X.org", "c@x.org"):
        record = {"email": address, "channel": "email", "status": "unsubscribed"}
        real_service.insert("unusual", [{"data": record}], "subscriber")
    assert client.members(filter=contact_filter(), purpose="email") == []
    real_service.insert("unusual", [{"data": {**record, "email": "D@x.org"}}], "subscriber")
    refusal = refused(lambda: client.members(filter=contact_filter(), purpose="email"))
    assert refusal.info.reason == "INVALID_FIELD"
    assert refusal.fields == ["purpose"]
    assert refusal.descriptions[0].endswith("store them in their normal form, such as ann@example.com")


@pytest.mark.parametrize("status", ["Bounced", "COMPLAINED"])
def test_a_contact_own_status_counts_in_any_case(real_service: Service, status: str) -> None:
    """A status that people wrote by hand holds mail back, too."""
    org = f"status{next(real_service.names)}x"
    real_service.insert(org, [{"data": {"status": status}}, {"data": {"status": "active"}}])
    assert real_service.client(org).count(filter=contact_filter(), purpose="email") == 1
