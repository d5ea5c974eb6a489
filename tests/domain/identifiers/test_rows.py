"""What a platform is sent for a value that a record has: every pair of tests/data/identifiers.json, and any value."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audience_service.domain.identifiers import IdentifierExtractor, choose_rules, phones
from audience_service.domain.identifiers.attributes import ATTRIBUTES
from audience_service.domain.identifiers.platforms import PLATFORM_RULES
from audience_service.domain.identifiers.region_context import RegionContext
from audience_service.domain.identifiers.rows import SOURCES
from audience_service.domain.identifiers.rules import FieldRule, PlatformRules
from tests.support.strategies import scalars

PAIRS = json.loads((Path(__file__).parents[2] / "data/identifiers.json").read_text())
EVERY_CHOICE: list[PlatformRules] = [
    rules.with_options(choice)
    for rules in PLATFORM_RULES
    for choice in [{}, *({option.name: name} for option in rules.options for name in option.choices)]
]
FIELD_RULES: list[FieldRule] = [rule for rules in EVERY_CHOICE for rule in rules.fields]
VALUES = st.recursive(
    scalars | st.text() | st.integers() | st.floats() | st.datetimes() | st.emails(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["country", "zip", "a"]), inner),
    max_leaves=5,
)
HOMES = [
    RegionContext(),
    RegionContext("US", "US"),
    RegionContext("GB", "GB"),
    RegionContext("IT", "IT"),
    RegionContext(None, "RU"),
]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: json.dumps(pair)[:60])
def test_a_value_is_sent_in_the_platforms_form_or_omitted(pair: list[Any]) -> None:
    platform, field, given_, normalised, sent, *about = pair
    about = about[0] if about else {}
    newest = next(rules for rules in PLATFORM_RULES if rules.version.startswith(f"{platform}/"))
    rules = newest.with_options(about.get("options", {}))
    alone = replace(rules, keys=(frozenset((field,)),), all_or_none=frozenset()).restricted_to((field,))
    data = {
        **({"country": about["country"]} if "country" in about else {}),
        **_nested(SOURCES[field][0], _read(given_)),
    }
    identified = IdentifierExtractor(alone, about.get("region", "")).identify({"data": data})
    assert identified.row == (None if sent is None else _row(alone, sent))
    has_value = identified.has_identifiers or field in ATTRIBUTES
    assert list(identified.invalid) == ([field] if sent is None and has_value else [])
    plain = replace(alone, fields=tuple(replace(rule, hashed=False) for rule in alone.fields))
    shown = IdentifierExtractor(plain, about.get("region", "")).identify({"data": data})
    assert shown.row == (None if normalised is None else _row(alone, _read(normalised)))


def _nested(path: Sequence[str], value: Any) -> dict[str, Any]:
    """The payload with a value at a path."""
    first, *others = path
    return {first: _nested(others, value) if others else value}


def _row(rules: PlatformRules, sent: str | list[str]) -> tuple[str, ...]:
    """The row of one field: its values, and empty columns for the values that the platform accepts besides them."""
    values = [sent] if isinstance(sent, str) else sent
    return (*values, *[""] * (rules.fields[0].max_values - len(values)))


@given(value=VALUES, rule=st.sampled_from(FIELD_RULES), home=st.sampled_from(HOMES))
def test_no_value_breaks_a_rule(value: Any, rule: FieldRule, home: RegionContext) -> None:
    assert rule.normalise(value, home) != ""


@given(
    text=st.text(max_size=60) | st.from_regex(re.compile(r"\A\+?[0-9 ()-]{6,16}\Z", re.ASCII)) | st.emails(),
    rule=st.sampled_from([rule for rule in FIELD_RULES if rule.normalise is not phones.digits]),
    home=st.sampled_from(HOMES),
)
def test_normalisation_is_idempotent(text: str, rule: FieldRule, home: RegionContext) -> None:
    once = rule.normalise(text, home)
    if once is not None and not rule.field.startswith("birth"):
        assert rule.normalise(once, home) == once


@given(data=VALUES, rules=st.sampled_from(EVERY_CHOICE))
def test_no_record_breaks_a_row(data: Any, rules: PlatformRules) -> None:
    spread = {path[0]: data for paths in SOURCES.values() for path in paths}
    for record in (
        {},
        {"data": data},
        {"data": spread},
        {"data": {"address": spread}},
        {"data": {"address": [spread]}},
    ):
        row = IdentifierExtractor(rules).identify(record).row
        assert row is None or len(row) == sum(rule.max_values for rule in rules.fields)


def test_half_of_a_surrogate_pair_is_no_text() -> None:
    identified = IdentifierExtractor(choose_rules("linkedin", "", {}, [])).identify(
        {"data": {"firstName": "A\ud800", "lastName": "B", "email": "a@example.com"}}
    )
    assert identified.invalid == ["first_name"]


@pytest.mark.slow
@pytest.mark.parametrize("region", sorted(phonenumbers.SUPPORTED_REGIONS))
def test_e164_detection_agrees_with_the_library(region: str) -> None:
    for kind in phonenumbers.PhoneNumberType.values():
        example = phonenumbers.example_number_for_type(region, kind)
        if example is None:
            continue
        text = phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164)
        put_in = [f"{text[:position]}{digit}{text[position:]}" for position in (2, 3, 4) for digit in "0189"]
        for change in (text, text[:-1], f"{text}0", *put_in):
            [reading] = phones.read_phones(change)
            expected = None if "renumbered" in reading.changes else reading.value or None
            assert expected == _by_the_library(change), change
            assert phones.e164(change) == (reading.value or None), change


def _by_the_library(text: str) -> str | None:
    try:
        number = phonenumbers.parse(text)
    except phonenumbers.NumberParseException:
        return None
    valid = phonenumbers.is_valid_number(number)
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164) if valid else None


def _read(value: Any) -> Any:
    """A value as a record holds it: `$parts` spell long text, `$date` a date."""
    match value:
        case {"$parts": [before, unit, times, after]}:
            return f"{before}{unit * times}{after}"
        case {"$date": text}:
            return datetime.fromisoformat(text)
        case _:
            return value
