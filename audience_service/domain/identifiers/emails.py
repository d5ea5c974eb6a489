"""Email addresses. Whether one is valid is told without patterns, which hostile text could make slow."""

from typing import Any

from audience_service.domain.identifiers.home import NOWHERE, Home
from audience_service.domain.identifiers.texts import read_text

_LONGEST = 254
"""RFC 5321 allows 256 characters for a path, whose angle brackets count."""

_GMAIL = frozenset(("gmail.com", "googlemail.com"))


def trimmed(value: Any, _: Home = NOWHERE) -> str | None:
    """Lower case, without white space around it."""
    return _valid(read_text(value).lower())


def unspaced(value: Any, _: Home = NOWHERE) -> str | None:
    """Lower case, without any white space."""
    return _valid(_unspaced(value))


def google(value: Any, _: Home = NOWHERE) -> str | None:
    """The same, and at Gmail without dots and +tag in the local part, which mean nothing there."""
    email = _unspaced(value)
    return _plain(email) if email.rpartition("@")[2] in _GMAIL else _valid(email)


def without_alias(value: Any, _: Home = NOWHERE) -> str | None:
    """Lower case, trimmed, without dots and +tag in the local part at any provider."""
    return _plain(read_text(value).lower())


def _unspaced(value: Any) -> str:
    return "".join(read_text(value).split()).lower()


def _plain(email: str) -> str | None:
    if _valid(email) is None:
        return None
    local, _, domain = email.partition("@")
    return _valid(f"{local.partition('+')[0].replace('.', '')}@{domain}")


def _valid(email: str) -> str | None:
    """The address, if it has one @, something before it, a dot within what follows, and no space or control inside."""
    local, _, domain = email.partition("@")
    labels = domain.split(".")
    is_valid = (
        len(email) <= _LONGEST
        and "@" not in domain
        and bool(local)
        and len(labels) > 1
        and all(labels)
        and " " not in email
        and email.isprintable()
    )
    return email if is_valid else None
