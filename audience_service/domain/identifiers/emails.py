"""Email addresses. Whether one is valid is told without patterns, which hostile text could make slow."""

from typing import Any

from audience_service.domain.identifiers.region_context import UNKNOWN_REGION, RegionContext
from audience_service.domain.identifiers.text import read_text

_MAX_LENGTH = 254
"""RFC 5321 allows 256 characters for a path, whose angle brackets count."""

_GMAIL = frozenset(("gmail.com", "googlemail.com"))


def trim(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """Lower case, without white space around it."""
    return _valid(read_text(value).lower())


def remove_spaces(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """Lower case, without any white space."""
    return _valid(_without_spaces(value))


def normalise_gmail(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """The same, and at Gmail without dots and +tag in the local part, which mean nothing there."""
    email = _without_spaces(value)
    return _without_dots_and_tag(email) if email.rpartition("@")[2] in _GMAIL else _valid(email)


def remove_alias(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """Lower case, trimmed, without dots and +tag in the local part at any provider."""
    return _without_dots_and_tag(read_text(value).lower())


def _without_spaces(value: Any) -> str:
    return "".join(read_text(value).split()).lower()


def _without_dots_and_tag(email: str) -> str | None:
    if _valid(email) is None:
        return None
    local, _, domain = email.partition("@")
    return _valid(f"{local.partition('+')[0].replace('.', '')}@{domain}")


def _valid(email: str) -> str | None:
    """The address, if it has one @, something before it, a dot within what follows, and no space or control inside."""
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
