"""Converts records to rows of identifiers."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from audience_service.domain.identifiers.attributes import ATTRIBUTES
from audience_service.domain.identifiers.countries import phone_region
from audience_service.domain.identifiers.emails import email_problem, read_emails
from audience_service.domain.identifiers.phones import read_phones
from audience_service.domain.identifiers.places import iso_country
from audience_service.domain.identifiers.postal_codes import read_postal_codes
from audience_service.domain.identifiers.readings import Reading
from audience_service.domain.identifiers.region_context import RegionContext
from audience_service.domain.identifiers.rules import FieldRule, PlatformRules

_COUNTRY = (("country",), ("address", "country"))

SOURCES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "email": tuple((name,) for name in ("email", "emails", "email2", "email3", "secondaryEmail")),
    "phone": tuple((name,) for name in ("phone", "phones", "phone2", "phone3", "mobile", "mobilePhone")),
    "first_name": (("firstName",),),
    "last_name": (("lastName",),),
    "country": _COUNTRY,
    "zip": (("zip",), ("address", "zip")),
    "city": (("city",), ("address", "city")),
    "state": (("region",), ("address", "region")),
    "birth_year": (("birthday",),),
    "birth_month": (("birthday",),),
    "birth_day": (("birthday",),),
    "gender": (("sex",), ("gender",)),
    "advertising_id": (("advertisingId",), ("maid",), ("idfa",), ("gaid",)),
    "external_id": (("externalId",),),
    "uid2": (("uid2",),),
    "ad_user_data": (("consent", "adUserData"),),
    "ad_personalization": (("consent", "adPersonalization"),),
    "customer_value": (("customerValue",), ("lifetimeValue",)),
    "company_name": (("companyName",), ("company",)),
    "company_domain": (("companyDomain",), ("companyWebsite",)),
}
"""The field paths of each field in a record's `data`.

Every email address and phone number counts, in the order of the paths and of lists. Of the other fields, the first
value that is not empty counts.
"""

VALUE_KEYS = ("value", "address", "email", "number", "phone")
"""Keys that hold the value in an object of a list: `{"type": "work", "value": "ann@example.com"}`."""

_READERS: Mapping[str, Callable[[Any, RegionContext], Sequence[Reading]]] = {
    "email": read_emails,
    "phone": read_phones,
    "zip": read_postal_codes,
}
"""The readers of fields whose values people write in many ways."""

_DEPENDENT = frozenset(("phone", "zip", "state"))
"""Fields whose rules depend on the contact's country."""


@dataclass(frozen=True, slots=True)
class IdentifierRow:
    """The identifiers of a record.

    `row` is None without a complete key. `has_identifiers` is whether any field has a value, valid or not. `problems`
    has pairs of a field and a problem with a value of it; `changes` pairs of a field and a kind of change. Each pair is
    there once.
    """

    row: tuple[str, ...] | None
    has_identifiers: bool
    problems: Sequence[tuple[str, str]] = ()
    changes: Sequence[tuple[str, str]] = ()

    @property
    def invalid(self) -> list[str]:
        """The fields with invalid values."""
        return list(dict.fromkeys(field for field, _ in self.problems))


class IdentifierExtractor:
    """Converts records to rows by a platform's rules.

    The first columns have the first value of each field. The further values of emails and phones follow, in columns of
    the same names.
    """

    def __init__(self, rules: PlatformRules, default_region: str = "", *, has_country_codes: bool = False) -> None:
        self._rules = rules.fields
        self._country = _COUNTRY if any(rule.field in _DEPENDENT for rule in rules.fields) else ()
        self._region = default_region or None
        self._has_country_codes = has_country_codes
        self._further = [rule for rule in rules.fields for _ in range(rule.max_values - 1)]
        at: dict[str, list[int]] = {}
        for index, rule in enumerate((*rules.fields, *self._further)):
            at.setdefault(rule.field, []).append(index)
        self._at = at
        self.keys: list[tuple[str, list[int]]] = []
        """The names and columns of each key: the values that identify a person, alone or together.

        They do not depend on the order of the rules' fields, so a key is the same whatever order a request names.
        """
        for key in rules.keys:
            if key <= at.keys():
                fields = [field for field in SOURCES if field in key]
                columns = [at[field] for field in fields]
                self.keys += [("+".join(fields), list(indexes)) for indexes in zip(*columns, strict=True)]
        self._all_or_none = [at[name][0] for name in rules.all_or_none if name in at]

    @property
    def columns(self) -> list[str]:
        """The platform's column names, in the order of a row's values."""
        return [rule.column for rule in (*self._rules, *self._further)]

    @property
    def fields(self) -> list[str]:
        """The field of each column."""
        return [rule.field for rule in (*self._rules, *self._further)]

    @property
    def record_paths(self) -> list[str]:
        """The field paths that rows need, with the prefix `data.`."""
        steps = dict.fromkeys(path for rule in self._rules for path in (*SOURCES[rule.field], *self._country))
        return [".".join(("data", *path)) for path in steps]

    def identify(self, record: Mapping[str, Any]) -> IdentifierRow:
        """The row of a record. Accepts values of any type."""
        data = record.get("data")
        context = self._context(data)
        row = [""] * (len(self._rules) + len(self._further))
        has_identifiers = False
        problems, changes = dict[tuple[str, str], None](), dict[tuple[str, str], None]()
        for rule in self._rules:
            values: dict[str, None] = {}
            for reading in _readings(data, rule.field, context):
                has_identifiers |= rule.field not in ATTRIBUTES
                value = "" if reading.problem else _format_value(rule, reading.value, context)
                if value:
                    values[value] = None
                    changes.update(((rule.field, change), None) for change in reading.changes)
                else:
                    problems[rule.field, reading.problem or _problem(rule.field, reading.value)] = None
            for index, value in zip(self._at[rule.field], values, strict=False):
                row[index] = value
        if self._all_or_none and not all(row[index] for index in self._all_or_none):
            for index in self._all_or_none:
                row[index] = ""
        is_identifiable = any(all(row[index] for index in indexes) for _, indexes in self.keys)
        return IdentifierRow(tuple(row) if is_identifiable else None, has_identifiers, list(problems), list(changes))

    def _context(self, data: Any) -> RegionContext:
        """The contact's own country comes before the default region: a number is never read in another's plan."""
        country = iso_country(_first(data, self._country))
        return RegionContext(country, phone_region(country) or self._region, self._has_country_codes)


def readings_of(record: Mapping[str, Any], field: str) -> Iterator[Reading]:
    """The readings of a field's values in a record."""
    data = record.get("data")
    return _readings(data, field, region_context_of(record))


def region_context_of(record: Mapping[str, Any]) -> RegionContext:
    """The country of a record, also as the region of its phone numbers without a country code."""
    country = iso_country(_first(record.get("data"), _COUNTRY))
    return RegionContext(country, phone_region(country))


def identifier_paths(field: str) -> tuple[str, ...]:
    """The field paths of a field's values, with the prefix `data.`."""
    return tuple(".".join(("data", *path)) for path in SOURCES[field])


def paths_of(field: str) -> tuple[str, ...]:
    """The field paths of a field's values, and of the country if it decides them, with the prefix `data.`."""
    country = _COUNTRY if field in _DEPENDENT else ()
    return (*identifier_paths(field), *(".".join(("data", *path)) for path in country))


def _readings(data: Any, field: str, context: RegionContext) -> Iterator[Reading]:
    reader = _READERS.get(field)
    if field in ATTRIBUTES:
        yield from (Reading(found) for path in SOURCES[field] if (found := _single(data, path)) is not None)
    elif reader is None:
        found = _first(data, SOURCES[field])
        if found is not None:
            yield Reading(found)
    elif field == "zip":
        found = _first(data, SOURCES[field])
        if found is not None:
            yield from reader(found, context)
    else:
        for found in _all(data, SOURCES[field]):
            yield from reader(found, context)


def _problem(field: str, value: Any) -> str:
    return email_problem(value) if field == "email" else f"invalid_{field}"


def _format_value(rule: FieldRule, found: Any, context: RegionContext) -> str:
    """The value as the platform receives it; empty if it is invalid."""
    value = rule.normalise(found, context)
    if not value:
        return ""
    try:
        encoded = value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return ""
    return hashlib.sha256(encoded).hexdigest() if rule.hashed else value


def _first(data: Any, paths: Sequence[Sequence[str]]) -> Any:
    """The first value at the paths that is not empty, or None."""
    for path in paths:
        found = _at(data, path)
        if found is not None:
            return found
    return None


def _at(value: Any, path: Sequence[str]) -> Any:
    if isinstance(value, list):
        return next((found for item in value if (found := _at(item, path)) is not None), None)
    if path:
        return _at(value.get(path[0]), path[1:]) if isinstance(value, dict) else None
    return None if value in ("", {}) or (isinstance(value, str) and not value.strip()) else value


def _single(value: Any, path: Sequence[str]) -> Any:
    """The value at a path that is not empty, or None. A list on the path is the value: it may say yes and no."""
    for step in path:
        if not isinstance(value, dict):
            break
        value = value.get(step)
    return None if isinstance(value, str) and not value.strip() else value


def _all(data: Any, paths: Sequence[Sequence[str]]) -> Iterator[Any]:
    """Every value at the paths that is not empty. An object counts as the value that it holds."""
    for path in paths:
        if not isinstance(data, dict) or path[0] in data:
            yield from _each(data, path)


def _each(value: Any, path: Sequence[str]) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _each(item, path)
    elif path:
        if isinstance(value, dict):
            yield from _each(value.get(path[0]), path[1:])
    elif isinstance(value, dict):
        held = next((value[key] for key in VALUE_KEYS if value.get(key) not in (None, "")), None)
        if value:
            yield value if held is None or isinstance(held, dict | list) else held
    elif value is not None and value != "" and not (isinstance(value, str) and not value.strip()):
        yield value
