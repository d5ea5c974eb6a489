"""Normalisations of companies. Each returns None for an invalid value."""

import re
from typing import Any

from audience_service.domain.identifiers.region_context import UNKNOWN_REGION, RegionContext
from audience_service.domain.identifiers.text import read_text

_MAX_NAME_LENGTH = 100
_MAX_DOMAIN_LENGTH = 253
_DOMAIN = re.compile(r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}", re.ASCII)
_SCHEME = re.compile(r"https?://", re.ASCII | re.IGNORECASE)


def name(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """The name as it is stored: printable text of at most 100 characters with a letter or a digit."""
    text = read_text(value)
    is_name = 0 < len(text) <= _MAX_NAME_LENGTH and text.isprintable() and any(c.isalnum() for c in text)
    return text if is_name else None


def domain(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """The domain in lower case, also from the address of a page."""
    text = read_text(value)
    if found := _SCHEME.match(text):
        text = re.split(r"[/?#:]", text[found.end() :], maxsplit=1)[0]
    text = text.lower()
    return text if len(text) <= _MAX_DOMAIN_LENGTH and _DOMAIN.fullmatch(text) else None
