"""What a value of a record or a cell reads as: its plain form and the changes that led there, or the problem with it.

    =" mailto:Ann@example.com"      Reading("Ann@example.com", changes=("formula", "uri_prefix"))
    ann@example.com; n/a            Reading("ann@example.com") and Reading("n/a")
    4.479E+11                       Reading(problem="rounded_number")

A reading makes only changes that are certain. The rules of a platform follow.
"""

import re
from dataclasses import dataclass
from typing import Any

from audience_service.domain.identifiers.text import to_ascii_width, without_invisible

CHANGES = {
    "decimal_zeros": "removed the decimal zeros of a number: `447900900123.0`",
    "display_name": "took the address out of a text with a name: `Ann <ann@example.com>`",
    "exponent": "wrote the digits of a number in scientific notation: `4.47900900123E+11`",
    "formula": 'took the text out of a spreadsheet\'s formula: `="ann@example.com"`',
    "full_width": "made full-width characters plain: `ａｎｎ＠example.com`",
    "invisible_characters": "removed characters that nobody sees, such as a zero-width space",
    "leading_zeros": "restored the zeros at the beginning of a postal code: `2134` in the US",
    "country_code": "read a number without a plus as one with its country code",
    "punctuation": "removed punctuation around the value: `ann@example.com;`",
    "quotes": "removed quotes around the value: `'ann@example.com'`",
    "renumbered": "converted a number of an old numbering plan to the current one: `+52 1 55 …`",
    "several_values": "read several values in one text",
    "typography": "made typographic apostrophes and hyphens plain: `o’brien@example.com`",
    "uri_prefix": "removed a prefix such as `mailto:` or `work:`",
}
"""The kinds of changes, with their descriptions."""

PROBLEMS = {
    "ambiguous_phone": "can be read as a number of the region and as one with another country code; "
    "write it with + or its leading 0, or set phones_have_country_code",
    "hashed_value": "is a SHA-256 and not the value itself; only uploads to a customer_match read hashes",
    "invalid_email": "is not an email address; write it as name@domain",
    "invalid_email_domain": "has no valid domain after the @; write one of letters, digits and hyphens between dots, "
    "which ends in letters",
    "invalid_phone": "is not a phone number of its country's numbering plan",
    "missing_country_code": "has no country code; write it with + and its country code, or set default_region",
    "missing_plus": "has no + before its country code; write it with +, or set phones_have_country_code",
    "rounded_number": "is in scientific notation, and digits are lost; format the column as text and export it again",
    "unsupported_hash": "looks like a hash of another kind, such as MD5 or SHA-1, or in Base64; "
    "write SHA-256 in hexadecimal digits",
}
"""The problems of email addresses and phone numbers, with their explanations."""

_QUOTES = dict(zip("\"'“‘«»„‚‹›`´「『", "\"'”’»«“‘›‹`´」』", strict=True))
_DIGEST_KINDS = {**dict.fromkeys((32, 40, 56, 96, 128), "unsupported_hash"), 64: "hashed_value"}
"""Hashes by their number of hexadecimal digits: MD5, SHA-1, SHA-224, SHA-384, SHA-512, and SHA-256."""
_HEXADECIMAL = frozenset("0123456789abcdefABCDEF")
_BASE64_DIGEST = re.compile(r"[A-Za-z0-9+/_-]{43}=")
_DIGEST_PREFIX = re.compile(r"(?:0x|\\x|\{?sha-?256\}?\s*[:=$]\s*)(?=[0-9a-f]{64}\b)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Reading:
    """A value in its plain form, with the kinds of changes made; or only the problem with it."""

    value: Any = ""
    changes: tuple[str, ...] = ()
    problem: str = ""


def unwrap(text: str) -> tuple[str, list[str]]:
    """The text without invisible characters, full-width forms, a formula and quotes around it; and these changes."""
    changes = []
    visible = without_invisible(text)
    if visible != text:
        changes.append("invisible_characters")
    plain = to_ascii_width(visible)
    if plain != visible:
        changes.append("full_width")
    plain = plain.strip()
    if plain.startswith('="') and plain.endswith('"') and len(plain) > 3:
        plain = plain[2:-1].strip()
        changes.append("formula")
    if prefix := _DIGEST_PREFIX.match(plain):
        plain = plain[prefix.end() :]
        changes.append("uri_prefix")
    while len(plain) > 2 and _QUOTES.get(plain[0]) == plain[-1]:
        plain = plain[1:-1].strip()
        changes.append("quotes")
    if plain[:1] == "'":  # spreadsheets mark a cell as text by it
        plain = plain[1:].strip()
        changes.append("quotes")
    return plain, changes


def digest_problem(text: str) -> str:
    """The problem of a text that is a hash; empty if it is none."""
    if _BASE64_DIGEST.fullmatch(text):
        return "unsupported_hash"
    return _DIGEST_KINDS.get(len(text), "") if _HEXADECIMAL.issuperset(text) and not text.isdigit() else ""
