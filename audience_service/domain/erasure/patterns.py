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
_MIN_DIGITS = 6
"""The fewest digits of a number that is searched for. Fewer occur in other values by chance."""


def address_pattern(person: Person) -> str:
    """The regular expression, for PCRE and Python, of the person's addresses, numbers and digests; "" for none."""
    emails = [rf"(?<![\w.+-]){re.escape(email)}(?![\w-])" for email in person.emails]
    numbers = [
        r"(?<!\d)(?:\+?\d{1,3}" + _SEPARATORS + r")?0?" + _SEPARATORS.join(number) + r"(?!\d)"
        for number in person.numbers
        if len(number) >= _MIN_DIGITS
    ]
    return "|".join([*emails, *numbers, *person.digests])


def person_pattern(person: Person) -> re.Pattern[str]:
    """The pattern of everything that identifies the person, also their ids and sort keys."""
    names = [rf"(?<![\w/-]){re.escape(name)}(?![\w-])" for name in (*person.sks, *person.ids)]
    parts: Iterable[str] = (*names, address_pattern(person))
    return re.compile("|".join(part for part in parts if part), re.IGNORECASE)


def redact(value: Any, pattern: re.Pattern[str]) -> Any:
    """The value with every match in its texts and numbers replaced. The same object if there is none."""
    if isinstance(value, str):
        return pattern.sub(REDACTED, value) if pattern.search(value) else value
    if isinstance(value, Mapping):
        changed = {name: redact(inner, pattern) for name, inner in value.items()}
        return changed if any(changed[name] is not inner for name, inner in value.items()) else value
    if isinstance(value, list):
        items = [redact(inner, pattern) for inner in value]
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    is_integer = (isinstance(value, int) and not isinstance(value, bool)) or (
        isinstance(value, float) and value.is_integer()
    )
    return REDACTED if is_integer and pattern.search(str(int(value))) else value
