"""Normalisations of email addresses.

Validation uses no regular expressions, because hostile text could make them slow.
"""

from typing import Any

from audience_service.domain.identifiers.region_context import UNKNOWN_REGION, RegionContext
from audience_service.domain.identifiers.text import read_text

_MAX_LENGTH = 254
"""RFC 5321 limits a path to 256 characters, including its two angle brackets."""

_GMAIL = frozenset(("gmail.com", "googlemail.com"))


def trim(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """The address in lower case, without surrounding white space; None if it is invalid."""
    return _valid(read_text(value).lower())


def remove_spaces(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """The address in lower case, without any white space; None if it is invalid."""
    return _valid(_without_spaces(value))


def normalise_gmail(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """The same as `remove_spaces`. Gmail ignores dots and a +tag in the local part, so its addresses lose them."""
    email = _without_spaces(value)
    return _without_dots_and_tag(email) if email.rpartition("@")[2] in _GMAIL else _valid(email)


def remove_alias(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """The address in lower case, trimmed, without dots and +tag in the local part, for any provider."""
    return _without_dots_and_tag(read_text(value).lower())


def _without_spaces(value: Any) -> str:
    return "".join(read_text(value).split()).lower()


def _without_dots_and_tag(email: str) -> str | None:
    if _valid(email) is None:
        return None
    local, _, domain = email.partition("@")
    return _valid(f"{local.partition('+')[0].replace('.', '')}@{domain}")


def _valid(email: str) -> str | None:
    """The address if it is valid, otherwise None.

    Valid means: one @, a local part, a domain with a dot, and neither spaces nor control characters.
    """
    local, _, domain = email.partition("@")
    labels = domain.split(".")
    is_valid = (
        len(email) <= _MAX_LENGTH
        and "@" not in domain
        and bool(local)
        and len(labels) > 1
        and all(labels)
        and " " not in email
        and email.isprintable()
    )
    return email if is_valid else None
