"""Email addresses: readings of texts that contain them, and their normalisations.

email-validator decides whether an address is valid; it never asks a name server. Texts are at most 1,000 characters, so
no regular expression is slow on hostile text.
"""

import html
import re
import unicodedata
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from email_validator import EmailNotValidError, ValidatedEmail, validate_email

from audience_service.domain.identifiers.readings import Reading, digest_problem, unwrap
from audience_service.domain.identifiers.region_context import UNKNOWN_REGION, RegionContext
from audience_service.domain.identifiers.text import read_text, to_ascii_width

_MAX_LENGTH = 254
"""RFC 5321 limits a path to 256 characters, including its two angle brackets."""

_GMAIL = frozenset(("gmail.com", "googlemail.com"))
_UNUSUAL_DOTS = frozenset(("docomo.ne.jp", "ezweb.ne.jp"))
"""Carriers in Japan whose addresses can have two dots in a row, or a dot before the @, against RFC 5322."""

_COMMON = re.compile(r"[a-z0-9_%+-]+(?:\.[a-z0-9_%+-]+)*@(?:[a-z0-9]+(?:-[a-z0-9]+)*\.)+[a-z]{2,}")
"""Most addresses. They are valid without the validator, which takes 20 times as long, if no label is too long."""
_MAX_LABEL_LENGTH = 63
_RESERVED = frozenset(("arpa", "invalid", "local", "localhost", "onion"))

_PART = re.compile(r'(?:"[^"\n]*"|[^;,|\n\r\t"、،؛\u2028\u2029]|"(?![^"\n]*"))+')
"""A part of a text with separators. Separators within quotes do not count."""
_DIGEST_SEPARATOR = re.compile(r"[;,|\s]+")
_GOOGLE_SEPARATOR = re.compile(r"\s*:::\s*")
_NEXT_BRACKETED = re.compile(r"(<[^<>\s]*@[^<>\s]*>)(?=[^<>]*<[^<>\s]*@)")
"""An address in brackets, before another one."""
_LOST = re.compile(r"[*]{2,}|\ufffd")
"""Signs that replaced letters: `a***@example.com`."""
_SLASH = re.compile(r"(@[\w.-]+\.[a-z]{2,})\s*/\s*(?=[^@\s/]+@)", re.IGNORECASE)
"""An address's domain and a slash, before another address."""
_PREFIX = re.compile(
    r"(?:(mailto)\s*:\s*(?://)?|https?://|(?:smtp|sip|xmpp|x400|im|e-?mail|mail|work|home|private|office|other):"
    r"|(?!(?:b?cc|to|from|sender|reply-to)\s*:)[^\W\d_][\w -]{0,30}:\s+)"
    r"(?=[^\s:/@]+(?:@|%40))",
    re.IGNORECASE,
)
"""A scheme, or a label such as `work:`, but no header of an email.

A label that is not a common one needs a space after its colon. In `ann:smith@example.com` the colon is probably a dot.
"""
_LINK = re.compile(
    r"""=HYPERLINK\(\s*"mailto:([^"?\s]+)[^)]*\)|<a\s[^<>]*mailto:([^"'?>\s]+)[^<>]*>[^<>]*</a>"""
    r"""|\[[^\[\]]*\]\(\s*mailto:([^()?\s]+)[^()]*\)""",
    re.IGNORECASE,
)
"""A link in a spreadsheet's formula, HTML or Markdown."""
_ENTITY = re.compile(r"&(?:[a-z]{2,8}|#\d{1,7}|#x[0-9a-f]{1,6});", re.IGNORECASE)
_COMMA_FOR_DOT = re.compile(
    r"((?:^|[\s;|])[\w.+-]+),(?=[\w.+-]+@)|(@[^@\s,;|<>\"]+),(?=(?:[a-z]{1,2}|com|net|org|edu|gov)\.?(?:$|[\s;|]))",
    re.IGNORECASE,
)
"""A comma that is probably a dot: `ann,smith@example.com`, `ann@example.co,uk`. A part is another person's address."""
_BRACKETED = re.compile(r"<\s*([^<>]*@[^<>]*)\s*(?:>|$)")
_TYPOGRAPHY = str.maketrans(dict.fromkeys("‘’ʼ′", "'") | dict.fromkeys("‐‑‒–—−", "-"))
"""Apostrophes and hyphens that text processors insert."""
_COMMENT = re.compile(r"(?<=[^\s(\[@])\s*[(\[][^()\[\]@]*[)\]]?\s*$")
_IN_PARENTHESES = re.compile(r"[^@]*[(\[]\s*([^()\[\]@\s]+@[^()\[\]@\s]+)\s*[)\]]\s*$")
_BEFORE, _AFTER = " \t;,:<([{|“„«»*•·…¡¿→►▪‣=#!?", " \t;,.:>)]}|/\\*“”«»•·…!?~=+_^&#$%-–—"
"""Punctuation that surrounds addresses. A dot can begin an address by mistake, so it stays and is invalid.

RFC 5322 allows some of these signs at the beginning, but people write them as marks: "*ann@example.com". Other signs at
the beginning, such as _ and +, belong to addresses that exist.
"""
_NUMBERED = re.compile(r"[(\[]?\d{1,4}[.)\]:]", re.ASCII)
"""The number of an item in a list: `1.`, `(2)`."""
_SPACED_AT = re.compile(r"([^\s@]+)\s*@\s*([^\s@]+)")
_MAX_LAYERS = 4
_WORDS = ("and", "or", "und", "oder", "et", "ou", "y", "o", "e", "en", "of", "og", "och", "i", "lub", "ve", "и", "или")
_NOISE = frozenset((*_WORDS, *"&/-–+*•·"))
"""Words between addresses that are separated by spaces."""


def read_emails(value: Any, _: RegionContext = UNKNOWN_REGION) -> list[Reading]:
    """A reading of each address in a text. Whether an address is valid depends on the normalisation."""
    text = read_text(value)
    if not text:
        return [Reading(problem="invalid_email")]
    if _COMMON.fullmatch(text):
        return [Reading(text)]
    if _COMMON.fullmatch(text.lower()):  # the most frequent case needs no further work
        return [Reading(text)]
    digests = [unwrap(part)[0] for part in _DIGEST_SEPARATOR.split(text) if part] if "@" not in text else []
    if digests and all(map(digest_problem, digests)):
        return [Reading(digest, problem=digest_problem(digest)) for digest in digests]
    common: tuple[str, ...] = ()
    if (narrow := to_ascii_width(text)) != text:
        text, common = narrow, ("full_width",)
    text = _ENTITY.sub(lambda entity: html.unescape(entity[0]), text)
    if "@" not in text and "%40" in text:
        text = unquote(text)  # from the address of a web page
    text = _COMMA_FOR_DOT.sub(r"\1\2\\", text)  # the backslash separates nothing, and is invalid
    parts = list(_split(text)) or [text]
    if len(parts) > 1:
        common = (*common, "several_values")
    elif parts[0] != text and "<" not in text:
        common = (*common, "punctuation")
    cleaned = map(_clean, parts)
    return [Reading(email, tuple(dict.fromkeys((*changes, *common)))) for email, changes in cleaned]


def email_problem(value: Any) -> str:
    """The problem of an address that is invalid by every rule."""
    _, at, domain = read_text(value).partition("@")
    if not at or "@" in domain or not domain:
        return "invalid_email"
    return "invalid_email" if _valid(_lower(f"a@{domain}")) else "invalid_email_domain"


def other_forms(email: str) -> tuple[str, ...]:
    """The forms of a normalised address whose domain is in Unicode and in ASCII (Punycode), without `email` itself."""
    local, _, domain = email.rpartition("@")
    if domain.isascii() and "xn--" not in domain:
        return ()
    found = _validated(f"a@{domain}")
    forms = {found.domain, found.ascii_domain} if found else set()
    return tuple(sorted(f"{local}@{form}" for form in forms - {domain, None}))


def trim(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """The address in lower case, without surrounding white space; None if it is invalid."""
    return _valid(_lower(read_text(value)))


def remove_spaces(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """The address in lower case, without any white space; None if it is invalid."""
    return _valid(_without_spaces(value))


def normalise_gmail(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """The same as `remove_spaces`. Gmail ignores dots and a +tag in the local part, so its addresses lose them."""
    email = _without_spaces(value)
    return _without_dots_and_tag(email) if email.rpartition("@")[2] in _GMAIL else _valid(email)


def remove_alias(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """The address in lower case, trimmed, without dots and +tag in the local part, for any provider."""
    return _without_dots_and_tag(_lower(read_text(value)))


def _split(text: str) -> Iterator[str]:
    """The parts of a text that may each be an address. A text with one address and no separator is one part."""
    if "@" not in text or _LINK.fullmatch(text):
        yield text
        return
    pieces = _PART.findall(_NEXT_BRACKETED.sub(r"\1\n", _SLASH.sub(r"\1\n", _GOOGLE_SEPARATOR.sub("\n", text))))
    parts = [piece.strip() for piece in pieces if piece.strip(_AFTER)]
    for index, part in enumerate(parts):
        if "@" not in part and "<" in "".join(parts[index + 1 : index + 2]):
            continue  # the first part of a name: "Smith, Ann <ann@example.com>"
        words = part.split()
        if part.count("@") > 1 and "<" not in part and len(words) > 1 and not _LINK.fullmatch(part):
            yield from (word for word in words if word.lower() not in _NOISE)
        else:
            yield part


def _clean(text: str) -> tuple[str, tuple[str, ...]]:
    """An address without what surrounds it, and the kinds of changes."""
    found: list[str] = []
    for _ in range(_MAX_LAYERS):
        before = text
        text = _peel(text, found)
        if text == before:
            break
    if not text.isascii() and (plain := text.translate(_TYPOGRAPHY)) != text:
        text = plain
        found.append("typography")
    return text, tuple(dict.fromkeys(found))


def _peel(text: str, found: list[str]) -> str:
    """The text without one layer of what can surround an address. Adds the kinds of changes to `found`."""
    text, changes = unwrap(text)
    found += changes
    if link := _LINK.fullmatch(text):
        found += ["display_name", "uri_prefix"]
        return unquote(link[link.lastindex or 0])
    if bracketed := _BRACKETED.search(text):
        found.append("display_name" if text[: bracketed.start()].strip() else "punctuation")
        text, changes = unwrap(bracketed[1])
        found += changes
    if (comment := _COMMENT.search(text)) or (comment := _IN_PARENTHESES.fullmatch(text)):
        text = text[: comment.start()] if comment.start() else comment[1]
        found.append("display_name")
    if prefix := _PREFIX.match(text):
        text = unquote(text[prefix.end() :]) if prefix[1] else text[prefix.end() :]
        found.append("uri_prefix")
    address, _, _query = text.partition("?")
    if "@" in address:
        found += ["punctuation"] if address != text and not prefix else []
        text = address  # mailto:ann@example.com?subject=Hello
    bare = _without_marks(text).lstrip(_BEFORE).rstrip(_AFTER)
    bare = _SPACED_AT.sub(r"\1@\2", bare) if _SPACED_AT.fullmatch(bare) else bare
    if bare != text.strip():
        found.append("punctuation")
    return bare


def _without_marks(text: str) -> str:
    """The only word with an @, if the others are signs or the number of an item: "- ann@example.com"."""
    words = text.split()
    addresses = [word for word in words if "@" in word.strip("@")]
    marks = [word for word in words if word not in addresses]
    are_marks = all(
        not any(map(str.isalnum, word)) or (word is words[0] and _NUMBERED.fullmatch(word)) for word in marks
    )
    return addresses[0] if marks and len(addresses) == 1 and are_marks else text


def _lower(text: str) -> str:
    """The text in lower case and NFC, which RFC 6532 requires of addresses."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFC", text.lower())


def _without_spaces(value: Any) -> str:
    return _lower("".join(read_text(value).split()))


def _without_dots_and_tag(email: str) -> str | None:
    if _valid(email) is None:
        return None
    local, _, domain = email.partition("@")
    return _valid(f"{local.partition('+')[0].replace('.', '')}@{domain}")


def _valid(email: str) -> str | None:
    """The address if it is valid, otherwise None. The domain keeps its form: Unicode or ASCII."""
    if len(email) > _MAX_LENGTH:
        return None
    if _COMMON.fullmatch(email):
        labels = email.rpartition("@")[2].split(".")
        if labels[-1] not in _RESERVED and max(map(len, labels)) <= _MAX_LABEL_LENGTH and "xn" not in labels[-1]:
            return email
    local, _, domain = email.rpartition("@")
    if _LOST.search(local):
        return None
    checked = re.sub(r"\.+", ".", local).strip(".") if domain in _UNUSUAL_DOTS else local
    found = _validated(f"{checked}@{domain}")
    if found is None or "." not in found.domain or len(found.domain.rpartition(".")[2]) < 2:
        return None
    return email if domain.isascii() else _lower(f"{local}@{found.domain}")


def _validated(email: str) -> ValidatedEmail | None:
    """What the validator finds; None if the address is invalid."""
    try:
        return validate_email(email, check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        return None
