"""Who must not be reached for a purpose, against a plain model of it, on the real engine."""

import itertools
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audience_service.mongo import subscribers
from tests.client import Client
from tests.conftest import Service

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


def _email(dice: random.Random) -> Any:
    """An address in some way of writing it, or none."""
    letter = dice.choice(_LETTERS)
    plain = f"{letter}@example.com"
    return dice.choice([plain, plain, f" {letter.upper()}@Example.com ", [plain, "z@example.com"], None, 7])


def _phone(dice: random.Random) -> Any:
    digit = dice.choice("0123")
    return dice.choice([f"+1415555010{digit}", f"+1 (415) 555-010{digit}", None])


def _plain(value: Any) -> set[str]:
    """The addresses that a value stands for."""
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
@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 10_000), purpose=st.sampled_from(sorted(_PURPOSES)), subscribed=st.integers(0, 12))
def test_members_and_those_left_out_are_those_of_the_model(
    real_service: Service, monkeypatch: pytest.MonkeyPatch, how: str, seed: int, purpose: str, subscribed: int
) -> None:
    if how == "looked up":
        monkeypatch.setattr(subscribers, "_MOST_ADDRESSES", 0)
    dice = random.Random(seed)
    org = f"suppressed{seed}-{next(real_service.names)}"
    contacts: list[dict[str, Any]] = [
        {"n": n, "status": dice.choice(_STATUSES), "email": _email(dice), "phone": _phone(dice)} for n in range(40)
    ]
    records: list[dict[str, Any]] = [
        {
            "channel": dice.choice(("email", "sms")),
            "status": dice.choice(_STATUSES),
            "email": f"{dice.choice(_LETTERS)}@example.com",
            "phone": f"+1415555010{dice.choice('0123')}",
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
