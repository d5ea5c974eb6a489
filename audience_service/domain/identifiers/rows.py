"""Converts records to rows of identifiers."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from audience_service.domain.identifiers.places import iso_country
from audience_service.domain.identifiers.region_context import RegionContext
from audience_service.domain.identifiers.rules import FieldRule, PlatformRules

_COUNTRY = (("country",), ("address", "country"))

SOURCES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "email": (("email",),),
    "phone": (("phone",),),
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
}
"""The field paths of each field in a record's `data`.

The first value that is not empty counts; lists are searched in order.
"""

_DEPENDENT = frozenset(("phone", "zip", "state"))
"""Fields whose rules depend on the contact's country."""


@dataclass(frozen=True, slots=True)
class IdentifierRow:
    """The identifiers of a record.

    `row` is None without a complete key. `has_identifiers` is whether any field has a value, valid or not.
    `invalid` has the fields with invalid values.
    """

    row: tuple[str, ...] | None
    has_identifiers: bool
    invalid: Sequence[str]


class IdentifierExtractor:
    """Converts records to rows by a platform's rules."""

    def __init__(self, rules: PlatformRules, default_region: str = "") -> None:
        self._rules = rules.fields
        self._country = _COUNTRY if any(rule.field in _DEPENDENT for rule in rules.fields) else ()
        self._region = default_region or None
        at = {rule.field: index for index, rule in enumerate(rules.fields)}
        self.keys = [sorted(at[name] for name in key) for key in rules.keys if key <= at.keys()]
        """The columns of each key: the values that identify a person, alone or together."""
        self._all_or_none = [at[name] for name in rules.all_or_none if name in at]

    @property
    def columns(self) -> list[str]:
        """The platform's column names, in the order of a row's values."""
        return [rule.column for rule in self._rules]

    @property
    def record_paths(self) -> list[str]:
        """The field paths that rows need, with the prefix `data.`."""
        steps = dict.fromkeys(path for rule in self._rules for path in (*SOURCES[rule.field], *self._country))
        return [".".join(("data", *path)) for path in steps]

    def identify(self, record: Mapping[str, Any]) -> IdentifierRow:
        """The row of a record. Accepts values of any type."""
        data = record.get("data")
        country = iso_country(_first(data, self._country))
        context = RegionContext(country, self._region or country)
        values, has_identifiers, invalid = [], False, []
        for rule in self._rules:
            found = _first(data, SOURCES[rule.field])
            value = "" if found is None else _format_value(rule, found, context)
            if found is not None:
                has_identifiers = True
                if not value:
                    invalid.append(rule.field)
            values.append(value)
        if self._all_or_none and not all(values[index] for index in self._all_or_none):
            for index in self._all_or_none:
                values[index] = ""
        is_identifiable = any(all(values[index] for index in key) for key in self.keys)
        return IdentifierRow(tuple(values) if is_identifiable else None, has_identifiers, invalid)


def value_of(record: Mapping[str, Any], field: str) -> Any:
    """The value of a field in a record, or None."""
    return _first(record.get("data"), SOURCES[field])


def region_context_of(record: Mapping[str, Any]) -> RegionContext:
    """The country of a record, also as the region of its phone numbers without a country code."""
    country = iso_country(_first(record.get("data"), _COUNTRY))
    return RegionContext(country, country)


def paths_of(field: str) -> tuple[str, ...]:
    """The field paths of a field's values, and of the country if it decides them, with the prefix `data.`."""
    paths = (*SOURCES[field], *(_COUNTRY if field in _DEPENDENT else ()))
    return tuple(".".join(("data", *path)) for path in paths)


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
