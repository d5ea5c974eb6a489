"""The addresses of a record as expressions: each email address or phone number in its normal form.

An email's normal form is its address alone, in lower case. A phone number's is E.164; each number is also there without
its plus, because some systems store it so. A record's addresses are at the paths that exports and uploads read.

    {email: "Ann <ANN@x.org>", emails: [{value: "b@x.org"}]}      ["ann <ann@x.org>", "ann@x.org", "b@x.org"]
    {mobile: "0170 / 1234567", country: "DE"}                     ["01701234567", "+491701234567", "491701234567"]

The texts that most records have, in normal form at the first path, take a shortcut.
"""

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import phonenumbers
from phonenumbers import PhoneMetadata

from audience_service.domain.filters.filter import Document
from audience_service.domain.identifiers.countries import country_spellings, is_country_code
from audience_service.domain.identifiers.phones import RENUMBERED
from audience_service.domain.identifiers.rows import VALUE_KEYS, identifier_paths

_INVISIBLE = "\u00ad\u200b\u200c\u200d\u200e\u200f\u202a\u202c\u202d\u2060\ufeff"
_SPACES = "\\s\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_WORD = f'[^{_SPACES}@<>()\\[\\]{{}}:;,|"“”„«»「」]'
_EMAIL = f"{_WORD}+@(?:(?![?/]){_WORD})+"
"""An address within a text. A question mark after the domain begins the parameters of a mailto: link."""
_AROUND_EMAIL = "'`‘’.\\"

PLAIN_EMAIL = r"^(?!.*xn--)[a-z0-9_%+-]+(?:\.[a-z0-9_%+-]+)*@[a-z0-9-]+(?:\.[a-z0-9-]+)*\.[a-z]{2,}$"
"""Emails that are certainly in normal form."""

_PUNCTUATION = " -()./\t\u00a0\u202f\u2010\u2011\u2012\u2013\u2014\u2212" + _INVISIBLE
_NUMBER = rf"\+?[{re.escape('(' + _INVISIBLE)}]*[0-9][0-9{re.escape(_PUNCTUATION)}]*[0-9]"
_DECIMAL = r"^(\+?[0-9]{6,15})[.,]0+$"


def email_addresses() -> Document:
    """Return the expression for the email addresses of a record, as a list of texts."""
    found: Document = {"$regexFindAll": {"input": "$$clean", "regex": _EMAIL}}
    found = {"$let": {"vars": {"clean": _without("$$item", _INVISIBLE)}, "in": found}}
    inner = {"$map": {"input": found, "in": {"$toLower": {"$trim": {"input": "$$this.match", "chars": _AROUND_EMAIL}}}}}
    forms = {"$concatArrays": [[{"$toLower": {"$trim": {"input": "$$item"}}}], inner]}
    forms = _unless_plain(PLAIN_EMAIL, ["$$item"], forms)
    return _addresses("email", PLAIN_EMAIL, lambda text: [text], forms, numbers=False)


def phone_addresses() -> Document:
    """Return the expression for the phone numbers of a record, as a list of texts."""
    number = {"$regexFind": {"input": "$$item", "regex": _DECIMAL}}
    text = {"$ifNull": [{"$arrayElemAt": [{"$getField": {"field": "captures", "input": number}}, 0]}, "$$item"]}
    numbers = {"$regexFindAll": {"input": text, "regex": _NUMBER}}
    each = {"$let": {"vars": {"plain": _without("$$this.match", _PUNCTUATION)}, "in": _number_forms()}}
    forms = _concatenated({"$map": {"input": numbers, "in": each}})
    forms = _unless_plain(plain_phone(), _with_digits("$$item"), forms)
    return _addresses("phone", plain_phone(), _with_digits, forms, numbers=True)


@cache
def plain_phone(plus: str = r"\+") -> str:
    """The pattern of numbers that are certainly in E.164: no trunk prefix, and no number of a former plan."""
    former = (f"{code}(?:{pattern})" for code, rules in RENUMBERED.items() for pattern, _ in rules)
    with_trunk = (f"{code}{prefix}{rest}" for code, prefix, rest in _trunks())
    return rf"^{plus}(?!(?:{'|'.join([*former, *with_trunk])})$)[1-9][0-9]{{6,14}}$"


def _number_forms() -> Document:
    """The forms of `$$plain`, a number of digits and perhaps a plus: as it is, and in E.164 with and without plus."""
    without_zeros = {"$concat": ["+", {"$substrBytes": ["$$plain", 2, -1]}]}
    international = {
        "$switch": {
            "branches": [
                {"case": _matches("$$plain", r"^\+"), "then": [_without_trunk("$$plain")]},
                {"case": _matches("$$plain", "^00"), "then": [without_zeros]},
            ],
            "default": _with_country_code(),
        }
    }
    current = {"$map": {"input": international, "as": "number", "in": _current()}}
    both = {"$map": {"input": current, "in": _with_digits("$$this")}}
    return {"$concatArrays": [["$$plain"], _concatenated(both)]}


def _with_country_code() -> Document:
    """`$$plain` with the country code of the record's country. Without a known country, it may begin with a code."""
    names, plans = _countries()
    country = {"$ifNull": ["$data.country", "$data.address.country"]}
    is_text = {"$eq": [{"$type": country}, "string"]}
    key = {"$cond": [is_text, {"$toLower": {"$trim": {"input": country}}}, ""]}
    plan = {"$split": [{"$arrayElemAt": [plans, "$$at"]}, " "]}
    code, prefix = ({"$arrayElemAt": ["$$plan", index]} for index in (0, 1))
    length = {"$strLenBytes": "$$prefix"}
    begins = {"$eq": [{"$substrBytes": ["$$plain", 0, length]}, "$$prefix"]}
    has_code = {"$eq": [{"$substrBytes": ["$$plain", 0, {"$strLenBytes": "$$code"}]}, "$$code"]}
    as_written: Document = {"$concat": ["+", "$$plain"]}
    without_prefix = {"$cond": [begins, {"$substrBytes": ["$$plain", length, -1]}, "$$plain"]}
    national = [
        {"$concat": ["+", "$$code", without_prefix]},
        {"$concat": ["+", {"$cond": [has_code, "", "$$code"]}, "$$plain"]},
    ]
    known = {"$let": {"vars": {"code": code, "prefix": prefix}, "in": national}}
    known = {"$let": {"vars": {"plan": plan}, "in": known}}
    at = {"$indexOfArray": [names, key]}
    return {"$let": {"vars": {"at": at}, "in": {"$cond": [{"$gte": ["$$at", 0]}, known, [as_written]]}}}


def _current() -> Document:
    """`$$number` in E.164, converted from a former plan to the current one."""
    branches = [
        {"case": _matches("$$number", rf"^\+{code}{pattern}$"), "then": _replaced(code, pattern, current)}
        for code, rules in RENUMBERED.items()
        for pattern, current in rules
    ]
    return {"$switch": {"branches": branches, "default": "$$number"}}


def _replaced(code: int, pattern: str, current: str) -> Document:
    """`$$number` by a template of RENUMBERED, which refers to groups of the pattern."""
    found = {"$regexFind": {"input": "$$number", "regex": rf"^\+{code}{pattern}$"}}
    parts = [
        {"$arrayElemAt": ["$$found.captures", int(group or named) - 1]} if group or named else text
        for group, named, text in re.findall(r"\\(\d)|\\g<(\d)>|([^\\]+)", current)
    ]
    return {"$let": {"vars": {"found": found}, "in": {"$concat": [f"+{code}", *parts]}}}


def _without_trunk(number: str) -> Document:
    """A number without the trunk prefix that some write after the country code: `+49 (0) 170 …`."""
    regex = rf"^\+(?:{'|'.join(f'({code}){prefix}(?={rest}$)' for code, prefix, rest in _trunks())})(.*)$"
    found = {"$regexFind": {"input": number, "regex": regex}}
    captures = {"$filter": {"input": "$$found.captures", "cond": {"$gt": ["$$this", None]}}}
    joined = {"$reduce": {"input": captures, "initialValue": "+", "in": {"$concat": ["$$value", "$$this"]}}}
    return {"$let": {"vars": {"found": found}, "in": {"$cond": [{"$gt": ["$$found", None]}, joined, number]}}}


@cache
def _trunks() -> list[tuple[int, str, str]]:
    """The country codes with a trunk prefix of digits, and the pattern of the national numbers after it."""
    found = []
    for code, (region, *_) in phonenumbers.COUNTRY_CODE_TO_REGION_CODE.items():
        metadata = PhoneMetadata.metadata_for_region_or_calling_code(code, region)
        prefix = metadata and metadata.national_prefix
        lengths = metadata and metadata.general_desc and metadata.general_desc.possible_length
        if prefix and lengths and prefix.isdigit():
            found.append((code, prefix, rf"[0-9]{{{min(lengths)},{max(lengths)}}}"))
    return found


@cache
def _countries() -> tuple[list[str], list[str]]:
    """The spellings of countries in lower case; at the same positions their country code and trunk prefix: "49 0"."""
    plans: dict[str, str] = {}
    for region in sorted(filter(is_country_code, phonenumbers.SUPPORTED_REGIONS)):
        metadata = PhoneMetadata.metadata_for_region(region)
        prefix = (metadata and metadata.national_prefix) or ""
        for name in country_spellings(region):
            plans.setdefault(name.lower(), f"{phonenumbers.country_code_for_region(region)} {prefix}")
    return list(plans), list(plans.values())


def _addresses(
    field: str, plain: str, shortcut: Callable[[str], list[Any]], forms: Document, *, numbers: bool
) -> Document:
    """The forms of every text at the paths of a field, with a shortcut for one plain text at the first path."""
    first, *others = (f"${path}" for path in identifier_paths(field))
    is_alone = {"$and": [{"$eq": [{"$type": path}, "missing"]} for path in others]}
    is_text = {"$and": [{"$eq": [{"$type": first}, "string"]}, is_alone]}
    is_plain = {"$cond": [is_text, _matches(first, plain), False]}
    all_forms = _concatenated({"$map": {"input": _texts((first, *others), numbers=numbers), "as": "item", "in": forms}})
    all_forms = {"$setDifference": [all_forms, [""]]}
    return {"$cond": [is_plain, shortcut(first), all_forms]}


def _texts(paths: Sequence[str], *, numbers: bool) -> Document:
    """The texts at paths: values, elements of lists, and the values of objects."""
    lists = [{"$cond": [{"$isArray": path}, path, [path]]} for path in paths]
    held = {"$ifNull": [f"$$this.{key}" for key in VALUE_KEYS]}
    value: Any = {"$cond": [{"$eq": [{"$type": "$$this"}, "object"]}, held, "$$this"]}
    if numbers:
        digits = {"$convert": {"input": {"$toLong": "$$number"}, "to": "string"}}
        is_number = {"$and": [{"$isNumber": "$$number"}, {"$gte": ["$$number", 0]}, {"$lt": ["$$number", 10**18]}]}
        value = {"$let": {"vars": {"number": value}, "in": {"$cond": [is_number, digits, "$$number"]}}}
    values = {"$map": {"input": {"$concatArrays": lists}, "in": value}}
    return {"$filter": {"input": values, "cond": {"$eq": [{"$type": "$$this"}, "string"]}}}


def _unless_plain(pattern: str, forms: list[Any], other: Document) -> Document:
    return {"$cond": [_matches("$$item", pattern), forms, other]}


def _with_digits(text: str) -> list[Any]:
    return [text, {"$substrBytes": [text, 1, -1]}]


def _matches(text: str, regex: str) -> Document:
    return {"$regexMatch": {"input": text, "regex": regex}}


def _without(text: str, characters: str) -> Any:
    plain: Any = text
    for character in characters:
        plain = {"$replaceAll": {"input": plain, "find": character, "replacement": ""}}
    return plain


def _concatenated(lists: Document) -> Document:
    return {"$reduce": {"input": lists, "initialValue": [], "in": {"$concatArrays": ["$$value", "$$this"]}}}
