"""Finds the texts of a person in stored values.

ann@example.com     in any case, not as part of a longer address
5555550177          with separators, and with or without a country code: +1 (555) 555-0177
contact-1           not as part of a longer id
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from audience_service.domain.erasure.model import REDACTED, Person

_SEPARATORS = r"[\s().\x2f-]{0,3}"
_DIGEST = re.compile(r"[0-9a-fA-F]{32,128}")
_FILTERS = frozenset(("filter", "where", "where_json"))
"""The keys of filters in the documents of the service."""
_MIN_DIGITS = 6
"""The fewest digits of a number that is searched for. Fewer occur in other values by chance."""


def address_pattern(person: Person) -> str:
    """The regular expression, for PCRE and Python, of the person's addresses, numbers and digests; "" for none."""
    emails = [rf"(?<![\w.+-]){_escaped_or_not(email)}(?![\w-])" for email in person.emails]
    numbers = [
        r"(?<!\d)(?:\+?\d{1,3}" + _SEPARATORS + r")?0?" + _SEPARATORS.join(number) + r"(?!\d)"
        for number in person.numbers
        if len(number) >= _MIN_DIGITS
    ]
    return "|".join([*emails, *numbers, *person.digests])


def _escaped_or_not(text: str) -> str:
    """The pattern that finds a text as it is, and also with backslashes before its punctuation."""
    return "".join(char if char.isalnum() else rf"\\?{re.escape(char)}" for char in text)


def person_pattern(person: Person) -> re.Pattern[str]:
    """The pattern of everything that identifies the person, also their ids and sort keys."""
    names = [rf"(?<![\w/-]){re.escape(name)}(?![\w-])" for name in (*person.sks, *person.ids)]
    parts: Iterable[str] = (*names, address_pattern(person))
    return re.compile("|".join(part for part in parts if part), re.IGNORECASE)


def redact(value: Any, pattern: re.Pattern[str], replacement: str = REDACTED, *, in_filter: bool = False) -> Any:
    """The value with every match in its texts replaced, and in the numbers of its filters. The same object without one.

    Other numbers are counts, sizes and positions of the service. A digest is replaced only if it is the person's.
    """
    if isinstance(value, str):
        is_match = pattern.fullmatch(value) if _DIGEST.fullmatch(value) else pattern.search(value)
        return pattern.sub(replacement, value) if is_match else value
    if isinstance(value, Mapping):
        changed = {
            name: redact(inner, pattern, replacement, in_filter=in_filter or name in _FILTERS)
            for name, inner in value.items()
        }
        return changed if any(changed[name] is not inner for name, inner in value.items()) else value
    if isinstance(value, list):
        items = [redact(inner, pattern, replacement, in_filter=in_filter) for inner in value]
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    is_integer = (isinstance(value, int) and not isinstance(value, bool)) or (
        isinstance(value, float) and value.is_integer()
    )
    return replacement if in_filter and is_integer and pattern.search(str(int(value))) else value
