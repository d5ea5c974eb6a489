"""Checks and resolves the spec of a lookalike: its size, its countries and its features."""

import dataclasses

from audience_service.domain.core.error_path import prefix_error_path
from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.custom_audiences.model import FIELD_PATH, LookalikeSpec
from audience_service.domain.filters import Filter
from audience_service.domain.filters.population import Population
from audience_service.domain.identifiers.countries import country_spellings, find_country, is_country_code
from audience_service.domain.lookalikes.curve import share_of
from audience_service.domain.lookalikes.features import Feature, parse_features
from audience_service.domain.lookalikes.label_leakage import leaking_fields

MAX_SHARE = 0.5
_FIELD_PATH = f"{FIELD_PATH}.lookalike"


def check_spec(spec: LookalikeSpec) -> LookalikeSpec:
    """The spec with distinct countries in upper case. Raises InvalidArgument inside `custom_audience.lookalike`."""
    with prefix_error_path(_FIELD_PATH):
        if not spec.source_audience_id:
            raise InvalidArgument.at("source_audience_id", "is missing; name the audience whose members are the seed")
        if (spec.share is None) == (spec.count is None):
            raise InvalidArgument.at("share", "is missing, and so is count; set exactly one")
        if spec.share is not None and not 0 < spec.share <= MAX_SHARE:
            raise InvalidArgument.at(
                "share", f"is out of range; set a number above 0 and at most {MAX_SHARE}, such as 0.01 for 1 %"
            )
        if spec.count is not None and spec.count < 1:
            raise InvalidArgument.at("count", "is below 1; set at least 1")
        countries = [find_country(country) or country.strip().upper() for country in spec.countries]
        for index, code in enumerate(countries):
            if not is_country_code(code):
                raise InvalidArgument.at(
                    f"countries[{index}]",
                    f"{code[:20]!r} is not a country; give its name or its ISO 3166-1 code, such as US",
                )
        parse_features(spec.fields, spec.exclude_fields)
    return dataclasses.replace(spec, countries=tuple(dict.fromkeys(countries)))


def select_features(spec: LookalikeSpec, source: Population) -> tuple[Feature, ...]:
    """The features to use: the named ones, or the default ones without those that the source's filter tests.

    Raises InvalidArgument at `fields` if none is left.
    """
    fields = parse_features(spec.fields, spec.exclude_fields)
    if spec.fields:
        return fields
    leaking = leaking_fields(fields, source)
    remaining = tuple(field for field in fields if field not in leaking)
    if not remaining:
        raise InvalidArgument.at(
            "fields", "is missing, but the source's filter tests every default field; name other fields"
        )
    return remaining


def source_fields(spec: LookalikeSpec, source: Population) -> tuple[str, ...]:
    """The named or default paths that the source's own filter tests, used or not."""
    return tuple(field.path for field in leaking_fields(parse_features(spec.fields, spec.exclude_fields), source))


def target_size(spec: LookalikeSpec, everyone: int) -> int:
    """The requested number of members, given the number of records that are not archived."""
    return spec.count if spec.count is not None else share_of(everyone, spec.share or 0.0)


def base_filter(datatype: str, spec: LookalikeSpec) -> Filter:
    """The records that are not archived, in the requested countries.

    The country is `country`, or `address.country` if that is empty.
    """
    if not spec.countries:
        return Filter(datatype, {})
    spellings = [name for code in spec.countries for name in country_spellings(code)]
    address_condition = {"country": {"$in": [None, ""]}, "address.country": {"$in": spellings}}
    return Filter(datatype, {"$or": [{"country": {"$in": spellings}}, address_condition]})
