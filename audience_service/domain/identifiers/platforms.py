"""The platforms' rules, one entry for each version.

docs/reference/identifiers.md has the sources. A new platform is a new entry.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NoReturn

from audience_service.domain.core.error_path import at_index, at_key
from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.identifiers import (
    attributes,
    companies,
    emails,
    person_fields,
    phones,
    places,
    postal_codes,
    stored_ids,
)
from audience_service.domain.identifiers.rules import FieldRule, Option, PlatformRules

_NAME = frozenset(("first_name", "last_name"))
_EMAIL, _PHONE = frozenset(("email",)), frozenset(("phone",))
_ADDRESS = _NAME | {"country", "zip"}
_EMAIL_SPACES = Option("email_spaces", {"trim": {}, "remove": {"email": {"normalise": emails.remove_spaces}}})

_META = PlatformRules(
    "meta/2026-11",
    (
        FieldRule("email", "EMAIL", emails.trim, max_values=3),
        FieldRule("phone", "PHONE", phones.digits, max_values=3),
        FieldRule("first_name", "FN", person_fields.bare_name),
        FieldRule("last_name", "LN", person_fields.bare_name),
        FieldRule("country", "COUNTRY", places.lower_country),
        FieldRule("zip", "ZIP", postal_codes.compact),
        FieldRule("city", "CT", places.letters),
        FieldRule("state", "ST", places.state),
        FieldRule("birth_year", "DOBY", person_fields.birth_year),
        FieldRule("birth_month", "DOBM", person_fields.birth_month),
        FieldRule("birth_day", "DOBD", person_fields.birth_day),
        FieldRule("gender", "GEN", person_fields.gender),
    ),
    keys=(_EMAIL, _PHONE, _NAME),
    batch_size=10_000,
    min_list_size=100,
)

_META_ZIP_DASH = Option(
    "zip_dash",
    {
        "remove": {},
        "cut": {"zip": {"normalise": postal_codes.before_dash}},
        "keep": {"zip": {"normalise": postal_codes.compact}},
    },
)

_META_WITHOUT_DASHES = replace(
    _META,
    version="meta/2026-11-30",
    fields=tuple(
        replace(rule, normalise=postal_codes.without_dashes) if rule.field == "zip" else rule for rule in _META.fields
    ),
    options=(_META_ZIP_DASH,),
)

_GOOGLE = PlatformRules(
    "google/2026-11",
    (
        FieldRule("email", "hashed_email", emails.normalise_gmail, max_values=10),
        FieldRule("phone", "hashed_phone_number", phones.e164, max_values=9),
        FieldRule("first_name", "address_info.hashed_first_name", person_fields.lowercase_name),
        FieldRule("last_name", "address_info.hashed_last_name", person_fields.lowercase_name),
        FieldRule("country", "address_info.country_code", places.iso_country, hashed=False, max_bytes=2),
        FieldRule("zip", "address_info.postal_code", postal_codes.trimmed, hashed=False, max_bytes=20),
    ),
    keys=(_EMAIL, _PHONE, _ADDRESS),
    batch_size=10_000,
    min_list_size=100,
    all_or_none=_ADDRESS,
    options=(
        Option(
            "api",
            {
                "google_ads": {},
                "data_manager": {
                    "email": {"column": "email_address"},
                    "phone": {"column": "phone_number"},
                    "first_name": {"column": "address.given_name"},
                    "last_name": {"column": "address.family_name"},
                    "country": {"column": "address.region_code"},
                    "zip": {"column": "address.postal_code"},
                },
            },
        ),
        Option(
            "name_punctuation",
            {"keep": {}, "drop": {name: {"normalise": person_fields.bare_name} for name in _NAME}},
        ),
    ),
)

_GOOGLE_API, *_GOOGLE_OPTIONS = _GOOGLE.options
_GOOGLE_WITH_MOBILE_IDS = replace(
    _GOOGLE,
    version="google/2026-12",
    fields=(
        *_GOOGLE.fields,
        FieldRule("advertising_id", "mobile_id", stored_ids.unchanged_advertising_id, hashed=False, is_default=False),
        FieldRule("ad_user_data", "consent.ad_user_data", attributes.consent_status, hashed=False, is_default=False),
        FieldRule(
            "ad_personalization",
            "consent.ad_personalization",
            attributes.consent_status,
            hashed=False,
            is_default=False,
        ),
    ),
    keys=(*_GOOGLE.keys, frozenset(("advertising_id",))),
    separate=(frozenset(("advertising_id",)),),
    options=(
        Option(
            "api",
            {
                "google_ads": {},
                "data_manager": {
                    **_GOOGLE_API.choices["data_manager"],
                    "advertising_id": {"column": "mobile_data.mobile_ids"},
                    "ad_user_data": {"normalise": attributes.prefixed_consent_status},
                    "ad_personalization": {"normalise": attributes.prefixed_consent_status},
                },
            },
        ),
        *_GOOGLE_OPTIONS,
    ),
)

_COMPANY = frozenset(("company_name", "company_domain"))
_LINKEDIN = PlatformRules(
    "linkedin/2026-11",
    (
        FieldRule("email", "SHA256_EMAIL", emails.trim),
        FieldRule("first_name", "firstName", person_fields.plain_name, hashed=False, max_bytes=140),
        FieldRule("last_name", "lastName", person_fields.plain_name, hashed=False, max_bytes=140),
        FieldRule("country", "country", places.iso_country, hashed=False, max_bytes=2),
    ),
    keys=(_EMAIL, _NAME),
    batch_size=5_000,
    min_list_size=300,
    options=(_EMAIL_SPACES,),
)

_LINKEDIN_WITH_COMPANIES = replace(
    _LINKEDIN,
    version="linkedin/2026-12",
    fields=(
        *_LINKEDIN.fields,
        FieldRule("company_name", "companyName", companies.name, hashed=False, max_bytes=400, is_default=False),
        FieldRule(
            "company_domain", "companyWebsiteDomain", companies.domain, hashed=False, max_bytes=253, is_default=False
        ),
    ),
    keys=(*_LINKEDIN.keys, *(frozenset((name,)) for name in sorted(_COMPANY))),
    separate=(_COMPANY,),
)

PLATFORM_RULES = (
    replace(
        _META_WITHOUT_DASHES,
        version="meta/2026-12",
        fields=(
            *_META_WITHOUT_DASHES.fields,
            FieldRule("advertising_id", "MADID", stored_ids.advertising_id, is_default=False),
            FieldRule(
                "external_id", "EXTERN_ID", stored_ids.lowercase_id, hashed=False, max_bytes=400, is_default=False
            ),
            FieldRule("customer_value", "LOOKALIKE_VALUE", attributes.customer_value, hashed=False, is_default=False),
        ),
        keys=(*_META.keys, frozenset(("advertising_id",)), frozenset(("external_id",))),
        options=(_META_ZIP_DASH, Option("madid", {"hash": {}, "plain": {"advertising_id": {"hashed": False}}})),
    ),
    _META_WITHOUT_DASHES,
    _META,
    _GOOGLE_WITH_MOBILE_IDS,
    _GOOGLE,
    PlatformRules(
        "tiktok/2026-11",
        (
            FieldRule("email", "EMAIL_SHA256", emails.trim),
            FieldRule("phone", "PHONE_SHA256", phones.e164),
        ),
        keys=(_EMAIL, _PHONE),
        batch_size=10_000,
        min_list_size=100,
        options=(
            Option("phone_plus", {"yes": {}, "no": {"phone": {"normalise": phones.digits}}}),
            Option("email_alias", {"keep": {}, "drop": {"email": {"normalise": emails.remove_alias}}}),
        ),
    ),
    _LINKEDIN_WITH_COMPANIES,
    _LINKEDIN,
    PlatformRules(
        "thetradedesk/2026-12",
        (FieldRule("uid2", "UID2", stored_ids.uid2, hashed=False),),
        keys=(frozenset(("uid2",)),),
        batch_size=1_000,
        min_list_size=0,
    ),
)
"""All versions; the newest version of each platform comes first."""

PLATFORMS = tuple(dict.fromkeys(rules.version.partition("/")[0] for rules in PLATFORM_RULES))


def choose_rules(platform: str, version: str, options: Mapping[str, str], fields: Sequence[str]) -> PlatformRules:
    """The rules of a request: the platform's newest or the named version, restricted to `fields` if any are given.

    Raises InvalidArgument at `platform`, `rules_version`, `options.<name>` and `fields[i]`.
    """
    if not platform:
        raise InvalidArgument.at("platform", f"is missing; give one of {', '.join(PLATFORMS)}")
    if platform not in PLATFORMS:
        _refuse("platform", platform, PLATFORMS)
    versions = [rules for rules in PLATFORM_RULES if rules.version.startswith(f"{platform}/")]
    named = [rules for rules in versions if version in ("", rules.version)]
    if not named:
        _refuse("rules_version", version, [rules.version for rules in versions])
    [rules, *_] = named
    known = {option.name: option for option in rules.options}
    for name, choice in options.items():
        if name not in known:
            _refuse(at_key("options", name), name, known)
        if choice not in known[name].choices:
            _refuse(at_key("options", name), choice, known[name].choices)
    return _of_fields(rules.with_options(options), fields)


def _of_fields(rules: PlatformRules, fields: Sequence[str]) -> PlatformRules:
    known = [rule.field for rule in rules.fields]
    for index, name in enumerate(fields):
        if name not in known:
            _refuse(at_index("fields", index), name, known)
    requested = tuple(dict.fromkeys(fields)) or tuple(rule.field for rule in rules.fields if rule.is_default)
    if not any(key <= set(requested) for key in rules.keys):
        keys = ", or ".join(" with ".join(name for name in known if name in key) for key in rules.keys)
        raise InvalidArgument.at("fields", f"do not identify a person; include {keys}")
    if rules.all_or_none & set(requested) and not rules.all_or_none <= set(requested):
        all_or_none = ", ".join(name for name in known if name in rules.all_or_none)
        raise InvalidArgument.at(
            "fields", f"include only some of {all_or_none}, which the platform accepts only together; give all or none"
        )
    for separate in rules.separate:
        others = [name for name in requested if name not in separate and any(name in key for key in rules.keys)]
        if others and separate & set(requested):
            names = " and ".join(name for name in known if name in separate)
            raise InvalidArgument.at(
                "fields", f"include {others[0]}, which the platform does not accept on a list of {names}; use two lists"
            )
    return rules.restricted_to(requested)


def _refuse(field_path: str, given: str, allowed: Iterable[str]) -> NoReturn:
    known = ", ".join(allowed)
    problem = f"is unknown; give one of {known}" if known else "is unknown; the platform has none"
    raise InvalidArgument.at(field_path, f"{given[:50]!r} {problem}")
