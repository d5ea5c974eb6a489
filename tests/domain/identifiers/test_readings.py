"""What people write reads as its plain form, or as the problem with it (tests/data/readings.json)."""

import json
from pathlib import Path
from typing import Any

import phonenumbers
import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import given
from hypothesis import strategies as st
from phonenumbers import PhoneNumberFormat, PhoneNumberType

from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.identifiers import emails, phones
from audience_service.domain.identifiers.countries import find_country, read_default_region
from audience_service.domain.identifiers.phones import RENUMBERED
from audience_service.domain.identifiers.postal_codes import read_postal_codes
from audience_service.domain.identifiers.readings import CHANGES, PROBLEMS, Reading
from audience_service.domain.identifiers.region_context import RegionContext

DATA: dict[str, list[Any]] = json.loads((Path(__file__).parents[2] / "data/readings.json").read_text())
PAGE = (Path(__file__).parents[3] / "docs/reference/identifiers.md").read_text()


def shown(reading: Reading, value: str | None, problem: str) -> list[Any]:
    return [value, list(reading.changes) if value else [], "" if value else reading.problem or problem]


@pytest.mark.parametrize(("text", "expected"), DATA["emails"], ids=lambda value: json.dumps(value)[:40])
def test_an_email_is_read_in_its_plain_form(text: str, expected: list[Any]) -> None:
    found = []
    for reading in emails.read_emails(text):
        value = None if reading.problem else emails.trim(reading.value)
        found.append(shown(reading, value, emails.email_problem(reading.value)))
    assert found == expected


@pytest.mark.parametrize("has_country_codes", [False, True])
def test_a_phone_number_is_read_in_e164(has_country_codes: bool) -> None:
    for text, region, expected in DATA["phones_with_country_codes" if has_country_codes else "phones"]:
        context = RegionContext(region or None, region or None, has_country_codes)
        readings = phones.read_phones(text, context)
        found = [shown(reading, None if reading.problem else reading.value, "") for reading in readings]
        assert found == expected, text


@pytest.mark.parametrize(("code", "names"), DATA["countries"])
def test_a_country_is_found_by_the_names_that_people_write(code: str, names: list[str]) -> None:
    assert {name: find_country(name) or "" for name in names} == dict.fromkeys(names, code)


@pytest.mark.parametrize(("country", "text", "value", "changes"), DATA["postal_codes"])
def test_a_postal_code_gets_its_zeros_back(country: str, text: Any, value: str, changes: list[str]) -> None:
    [reading] = read_postal_codes(text, RegionContext(country=country))
    assert (reading.value, list(reading.changes)) == (value, changes)


@pytest.mark.parametrize(
    ("text", "region"), [("", ""), ("UK", "GB"), ("uk", "GB"), ("United States", "US"), ("kr", "KR")]
)
def test_a_default_region_is_a_country_by_any_name(text: str, region: str) -> None:
    assert read_default_region(text, "default_region") == region


@pytest.mark.parametrize("text", ["XX", "Nowhere", "AQ", " "])
def test_a_default_region_without_phone_numbers_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="use two letters, such as US"):
        read_default_region(text, "default_region")


@given(st.from_regex(r"\A[a-z0-9.+_%-]{1,12}@[a-z0-9.-]{1,20}\.[a-z]{2,6}\Z") | st.emails())
def test_the_quick_check_of_common_addresses_agrees_with_the_validator(address: str) -> None:
    try:
        validate_email(address.lower(), check_deliverability=False, test_environment=True)
        is_valid = True
    except EmailNotValidError:
        is_valid = False
    assert (emails.trim(address) is not None) <= is_valid


@given(st.text(max_size=80))
def test_no_text_breaks_a_reading(text: str) -> None:
    for reading in (*emails.read_emails(text), *phones.read_phones(text, RegionContext("DE", "DE"))):
        assert set(reading.changes) <= CHANGES.keys()
        assert reading.problem in {"", *PROBLEMS}


@pytest.mark.slow
@pytest.mark.parametrize("region", ["AU", "BR", "CO", "DE", "HK", "ID", "JP", "KR", "SG", "TH", "TZ", "US"])
def test_a_number_with_its_country_code_is_never_another_number(region: str) -> None:
    """With + or 00, the example numbers of all countries read as themselves or are refused, in every dialling plan."""
    context = RegionContext(region, region)
    kinds = (PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE)
    numbers = (
        phonenumbers.example_number_for_type(one, kind) for one in phonenumbers.SUPPORTED_REGIONS for kind in kinds
    )
    for number in filter(None, numbers):
        expected = phonenumbers.format_number(number, PhoneNumberFormat.E164)
        spaced = phonenumbers.format_number(number, PhoneNumberFormat.INTERNATIONAL)
        assert [one.value for one in phones.read_phones(spaced, context)] == [expected]
        assert phones.read_phones(f"00{expected[1:]}", context)[0].value in (expected, "")


@pytest.mark.slow
def test_a_number_without_a_plus_is_never_another_number_of_its_country() -> None:
    """Digits that begin with the region's own country code read as that number or are refused."""
    for region in phonenumbers.SUPPORTED_REGIONS:
        for kind in (PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE):
            if number := phonenumbers.example_number_for_type(region, kind):
                expected = phonenumbers.format_number(number, PhoneNumberFormat.E164)
                [reading] = phones.read_phones(expected[1:], RegionContext(region, region))
                assert reading.value in (expected, "")


def test_every_change_and_problem_is_documented() -> None:
    assert {name for name in (*CHANGES, *PROBLEMS) if f"`{name}`" not in PAGE} == set()


def test_renumbered_plans_are_of_numbers_that_are_invalid_today() -> None:
    samples = {52: "15541637145", 55: "1187654321", 57: "13456789", 84: "1621234567", 225: "07123456", 229: "97123456"}
    for code, national in {**samples, 237: "77123456"}.items():
        [reading] = phones.read_phones(f"+{code}{national}")
        assert (code in RENUMBERED, reading.changes) == (True, ("renumbered",))
