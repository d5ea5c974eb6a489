"""The sample records: valid, relative to a time, and with correlations to find."""

from datetime import UTC, datetime, timedelta
from statistics import mean
from typing import Any

import phonenumbers
import pytest

from audience_service.sample_data import sample_activity, sample_companies, sample_contacts

AT = datetime(2031, 2, 3, tzinfo=UTC)


@pytest.fixture(scope="module")
def contacts() -> list[dict[str, Any]]:
    """The sample contacts of an org."""
    return list(sample_contacts("shop", 3_000, at=AT))


def test_phones_are_valid_and_companies_exist(contacts: list[dict[str, Any]]) -> None:
    phones = {contact["data"]["phone"] for contact in contacts}
    assert [phone for phone in phones if not phonenumbers.is_valid_number(phonenumbers.parse(phone))] == []
    companies = {company["pk"] for company in sample_companies("shop", at=AT)}
    assert {contact["data"]["companyId"] for contact in contacts} <= companies


def test_dates_are_relative_to_the_given_time(contacts: list[dict[str, Any]]) -> None:
    """The same contacts at another time have the same ages."""
    created = [contact["createdate"] for contact in contacts]
    assert max(created) < AT
    assert sum(date > AT - timedelta(days=7) for date in created) > 10
    later = sample_contacts("shop", 1, at=AT + timedelta(days=3))
    assert next(later)["createdate"] - created[0] == timedelta(days=3)


def test_vips_open_more_and_buy_more_and_have_a_high_score(contacts: list[dict[str, Any]]) -> None:
    vips = [contact for contact in contacts if "vip" in contact["data"]["tags"]]
    others = [contact for contact in contacts if "vip" not in contact["data"]["tags"]]

    def orders(contact: dict[str, Any]) -> int:
        return sum(record["datatype"] == "order" for record in sample_activity(contact, at=AT))

    def opened(contact: dict[str, Any]) -> bool:
        return "lastEmailOpenedAt" in contact["data"]

    assert mean(map(orders, vips)) > 3 * mean(map(orders, others))
    assert mean(map(opened, vips)) > 1.2 * mean(map(opened, others))
    assert mean(contact["data"]["score"] for contact in vips) > 1.3 * mean(c["data"]["score"] for c in others)


def test_activity_is_that_of_its_contact(contacts: list[dict[str, Any]]) -> None:
    """Orders and events name the contact, and consent its address, in the contact's org."""
    records = [(contact, record) for contact in contacts[:200] for record in sample_activity(contact, at=AT)]
    assert {record["datatype"] for _, record in records} == {"order", "event", "subscriber"}
    for contact, record in records:
        assert record["sk"].startswith(f"shop/{record['datatype']}/")
        assert record["data"].get("contactId", contact["pk"]) == contact["pk"]
        assert record["data"].get("email", contact["data"]["email"]) == contact["data"]["email"]
    assert len({record["pk"] for _, record in records}) == len(records)
