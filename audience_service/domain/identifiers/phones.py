"""Phone numbers: readings of texts that contain them, and their normalisations.

The package phonenumbers (libphonenumber) has the numbering plans of all countries. `RENUMBERED` has former plans.
"""

import re
from functools import lru_cache
from typing import Any

import phonenumbers
from phonenumbers import PhoneMetadata, PhoneNumber, PhoneNumberFormat, PhoneNumberType

from audience_service.domain.identifiers.readings import Reading, digest_problem, unwrap
from audience_service.domain.identifiers.region_context import UNKNOWN_REGION, RegionContext
from audience_service.domain.identifiers.text import read_numeral

_MAX_DIGITS = 15
_MAX_CODE_LENGTH = 3
_MIN_DIGITS = 6
"""The fewest digits of each number in a text with several numbers."""

_SEPARATOR = re.compile(
    r"\s*:::\s*|[;|\r\n\t]+(?!\s*(?:ext|isub|phone-context)\s*=)|[,，]\s*(?=[+＋0]|\d{7})|\s/\s(?=[+0(])|/(?=\+)"
    r"|\s[-–]\s*(?=\+)|[、،؛；]|\s(?:and|or|und|oder|et|ou|y|o|e|&)\s(?=[+(\d])",
    re.IGNORECASE,
)
_PREFIX = re.compile(r"(?:p|phone|whatsapp|callto|sms|mobile|mob|cell)\s*:\s*(?=[+(\d])", re.IGNORECASE)
_CHAT = re.compile(
    r"(?:https?://)?(?:wa\.me/|api\.whatsapp\.com/send/?\?phone=)\+?(\d+)(?:\D.*)?|\+?(\d+)@(?:s\.whatsapp\.net|c\.us)",
    re.IGNORECASE,
)
"""A link to a chat, or its address. Its digits begin with the country code."""
_LIKE_DIGITS = frozenset("oil")
"""Letters that are typed for 0 and 1. Read as those of a keypad they would be another person's number."""
_KEYPAD_KINDS = (
    PhoneNumberType.TOLL_FREE,
    PhoneNumberType.PREMIUM_RATE,
    PhoneNumberType.SHARED_COST,
    PhoneNumberType.UAN,
)
"""The kinds of numbers that are written with letters: `1-800-GO-FEDEX`. Elsewhere letters are a note."""
_UNCLEAR = re.compile(
    r"(?<!0)x{2,}|[*#•?…]{2,}|_{3,}"  # hidden digits, but not the `0xx` before Brazilian area codes
    r"|\d\s*/\s*\d{1,3}\s*$"  # two numbers that differ in their last digits: `030 123456/7`
    r"|^\s*(?:\d{4}-\d\d-\d\d|\d{1,2}[./]\d{1,2}[./](?:19|20)\d\d)(?:[T\s]\d.*)?$",  # a date
    re.IGNORECASE,
)
"""Texts whose digits, without the rest, would be another person's number."""
_LABEL = re.compile(r"\s*\([^()\d]*\)\s*$")
_DECIMAL = re.compile(r"(\+?\d{6,15})[.,]0+")
_EXPONENT = re.compile(r"\+?(\d)(?:[.,](\d*))?[eE]\+?(\d{1,2})")
_MIN_SHOWN_DIGITS = 10
"""Spreadsheets that round a number show fewer digits of it."""
_MANY_LENGTHS = 2
"""A plan with more lengths than these accepts nearly any digits as a number."""
_MOBILE_KINDS = (PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE_OR_MOBILE)
_NORTH_AMERICAN_DIGITS = 11
"""The digits of a number in North America with its country code."""

RENUMBERED: dict[int, tuple[tuple[str, str], ...]] = {
    20: (  # Egypt, 2011: mobile numbers of ten digits, by operator
        (r"1([012])(\d{7})", r"1\1\1\2"),
        (r"1([69])(\d{7})", r"10\1\2"),
        (r"14(\d{7})", r"114\1"),
        (r"1([78])(\d{7})", r"12\1\2"),
    ),
    52: ((r"(?:0?1|04[45])(\d{10})", r"\1"),),  # Mexico, 2019: mobile numbers without 1, 044 and 045
    55: ((r"([1-9]\d)([6-9]\d{7})", r"\g<1>9\2"),),  # Brazil, 2012 to 2016: a ninth digit for mobile numbers
    56: ((r"2(\d{7})", r"22\1"),),  # Chile, 2013: landlines of Santiago with nine digits
    57: ((r"([1-8]\d{7})", r"60\1"),),  # Colombia, 2021: landlines with ten digits
    84: (  # Vietnam, 2018: mobile numbers of eleven digits to ten
        (r"16([2-9]\d{7})", r"3\1"),
        (r"12[0](\d{7})", r"70\1"),
        (r"121(\d{7})", r"79\1"),
        (r"122(\d{7})", r"77\1"),
        (r"126(\d{7})", r"76\1"),
        (r"128(\d{7})", r"78\1"),
        (r"12([345])(\d{7})", r"8\1\2"),
        (r"127(\d{7})", r"81\1"),
        (r"129(\d{7})", r"82\1"),
        (r"18([68])(\d{7})", r"5\1\2"),
        (r"199(\d{7})", r"59\1"),
        (r"4(\d{8})", r"24\1"),  # 2017: landlines of Hanoi
    ),
    225: (  # Ivory Coast, 2021: ten digits, by operator
        (r"([04-9][0-3]\d{6})", r"01\1"),
        (r"([04-9][4-6]\d{6})", r"05\1"),
        (r"([04-9][7-9]\d{6})", r"07\1"),
        (r"([23]\d8\d{5})", r"21\1"),
        (r"([23]\d0\d{5})", r"25\1"),
        (r"([23]\d[1-79]\d{5})", r"27\1"),
    ),
    229: ((r"([2-9]\d{7})", r"01\1"),),  # Benin, 2024: 01 before eight digits
    230: ((r"([24789]\d{6})", r"5\1"),),  # Mauritius, 2013: mobile numbers with eight digits
    234: ((r"(1\d{7})", r"20\1"),),  # Nigeria, 2024: landlines of Lagos with ten digits
    237: ((r"([23]\d{7})", r"2\1"), (r"([5-9]\d{7})", r"6\1")),  # Cameroon, 2014: nine digits
    248: ((r"([57]\d{5})", r"2\1"), (r"([236]\d{5})", r"4\1")),  # Seychelles, 2011: seven digits
    386: ((r"(4[389]\d{6})", r"+383\1"),),  # Kosovo, 2017: mobile numbers with the code of Slovenia
    504: ((r"([2456]\d{6})", r"2\1"),),  # Honduras, 2010: landlines with eight digits
    593: ((r"([89]\d{7})", r"9\1"),),  # Ecuador, 2012: mobile numbers with nine digits
    599: ((r"(5\d{6})", r"+1721\1"),),  # Sint Maarten, 2011: part of the North American plan
    966: ((r"([1-7]\d{7})", r"1\1"),),  # Saudi Arabia, 2013: landlines with nine digits
    974: ((r"([3-7])(\d{6})", r"\1\1\2"),),  # Qatar, 2010: eight digits
    995: (  # Georgia, 2011: nine digits
        (r"8(\d{9})", r"\1"),
        (r"([579]\d{7})", r"5\1"),
        (r"32(\d{6})", r"322\1"),
    ),
    998: ((r"8(\d{9})", r"\1"),),  # Uzbekistan: the former prefix for calls inside the country
}
"""Former national numbers and what they are now, by country code. Only invalid numbers are converted.

A number that moved to another country code begins with a plus.
"""


def read_phones(value: Any, context: RegionContext = UNKNOWN_REGION) -> list[Reading]:
    """A reading of each number in a text or a number, in E.164."""
    text = read_numeral(value)
    if not text:
        return [Reading(problem="invalid_phone")]
    if _is_e164(text):
        return [Reading(text)]
    parts = [part for part in _SEPARATOR.split(text) if part.strip()]
    if len(parts) > 1 and all(_count_digits(part) >= _MIN_DIGITS for part in parts):
        readings = [_read(part, context) for part in parts]
        for index, part in enumerate(parts):
            if _omits_area(part.strip(), parts[0]):
                readings[index] = Reading(problem="ambiguous_phone")
        return [Reading(one.value, (*one.changes, "several_values"), one.problem) for one in readings]
    return [_read(parts[0] if len(parts) == 1 else text, context)]


def e164(value: Any, context: RegionContext = UNKNOWN_REGION) -> str | None:
    """The number in E.164, such as `+18005550100`; None if its numbering plan has no such number."""
    text = read_numeral(value)
    return text if _is_e164(text) else _read(text, context).value or None


def digits(value: Any, context: RegionContext = UNKNOWN_REGION) -> str | None:
    """The number in E.164 without the plus, such as `18005550100`."""
    number = e164(value, context)
    return number and number[1:]


def _read(text: str, context: RegionContext) -> Reading:
    text, changes = unwrap(text)
    if problem := digest_problem(text):
        return Reading(text, problem=problem)
    if prefix := _PREFIX.match(text):
        text = text[prefix.end() :]
        changes.append("uri_prefix")
    if chat := _CHAT.fullmatch(text):
        text = "+" + chat[chat.lastindex or 0]
        changes.append("uri_prefix")
    if label := _LABEL.search(text):
        text = text[: label.start()]
        changes.append("display_name")
    if decimal := _DECIMAL.fullmatch(text):
        text = decimal[1]
        changes.append("decimal_zeros")
    if exponent := _EXPONENT.fullmatch(text):
        text = _digits_of(exponent)
        changes.append("exponent")
        if not text:
            return Reading(problem="rounded_number")
    letters = {char for char in text.casefold() if char.isalpha()}
    if (letters and letters <= _LIKE_DIGITS) or _UNCLEAR.search(text):
        return Reading(problem="invalid_phone")
    return _parse(text, context, changes)


def _parse(text: str, context: RegionContext, changes: list[str]) -> Reading:
    has_plus = "+" in text[: _first_digit(text)]
    plain = "".join(char for char in text if char.isdigit())
    international = _number(f"+{plain.removeprefix('00')}", None) if plain else None
    if has_plus or not plain:
        number = _number(text, context.region) or (international if plain.startswith("00") else None)
        return _reading(number, changes) if number else Reading(problem="invalid_phone")
    if plain.startswith("0") and not plain.startswith("00"):
        international = None
    elif context.has_country_codes and not plain.startswith("0"):
        if international is None:
            return Reading(problem="missing_country_code")
        return _reading(international, [*changes, "country_code"])
    national = _number(text, context.region)
    if international and national and not _is_same(international, national):
        if plain.startswith("00"):
            return Reading(problem="ambiguous_phone")
        if _is_own_code(plain, context.region) and _is_mobile(international) and not _is_mobile(national):
            return _reading(international, [*changes, "country_code"])
        if _is_ambiguous(national, international, plain, context.region):
            return Reading(problem="ambiguous_phone")
    if national:
        return _reading(national, changes)
    if international and plain.startswith("00"):
        return _reading(international, [*changes, "country_code"])
    if international:
        return Reading(problem="missing_plus")
    return Reading(problem="missing_country_code" if context.region is None else "invalid_phone")


def _is_ambiguous(national: PhoneNumber, international: PhoneNumber, plain: str, region: str | None) -> bool:
    """Whether digits without a plus are a number of the region as likely as one with its country code.

    1. Nearly any digits are a number in a plan with many lengths. A mobile number is likelier than a landline.
    2. In other plans the region's number is likelier, because foreign numbers without a plus are rare. Exceptions: a
       number of a former plan, of another region with the same country code, or of a service.
    3. `15125551234` is a number of North America with its 1, and a German mobile number that lost its 0.
    """
    if _is_own_code(plain, region):
        return True
    is_clear = _is_mobile(national) and not _is_mobile(international)
    if _has_many_lengths(national):
        return not is_clear
    is_elsewhere = phonenumbers.region_code_for_number(national) != region and _is_mobile(international)
    is_north_american = plain.startswith("1") and len(plain) == _NORTH_AMERICAN_DIGITS
    has_lost_zero = phonenumbers.format_number(national, PhoneNumberFormat.NATIONAL).startswith(("0", "(0"))
    return bool(national.raw_input) or is_elsewhere or (is_north_american and has_lost_zero)


def _is_own_code(plain: str, region: str | None) -> bool:
    return region is not None and plain.startswith(str(phonenumbers.country_code_for_region(region)))


def _is_same(one: PhoneNumber, other: PhoneNumber) -> bool:
    return phonenumbers.format_number(one, PhoneNumberFormat.E164) == phonenumbers.format_number(
        other, PhoneNumberFormat.E164
    )


def _number(text: str, region: str | None) -> PhoneNumber | None:
    """The number, converted to the current plan if necessary; None if it is invalid."""
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None
    if _has_note(text) and phonenumbers.number_type(number) not in _KEYPAD_KINDS:
        return None
    if phonenumbers.is_valid_number(number):
        return number
    national = phonenumbers.national_significant_number(number)
    for former, current in RENUMBERED.get(number.country_code or 0, ()):
        if re.fullmatch(former, national):
            now = re.sub(former, current, national)
            renumbered = phonenumbers.parse(now if now.startswith("+") else f"+{number.country_code}{now}", None)
            renumbered.raw_input = "renumbered"
            if phonenumbers.is_valid_number(renumbered):
                return renumbered
    return None


def _omits_area(part: str, first: str) -> bool:
    """Whether a further number seems to be one in the area of the first: "030 1234567, 7654321"."""
    return part[0].isdigit() and part[0] != "0" and _count_digits(part) + 1 < _count_digits(first)


def _has_note(text: str) -> bool:
    """Whether letters after the first digit would be read as those of a keypad."""
    if not any(map(str.isalpha, text)):
        return False
    return phonenumbers.is_alpha_number(text[_first_digit(text) :].partition(";")[0])


def _first_digit(text: str) -> int:
    """The index of the first digit; the length of a text without any."""
    return next((index for index, char in enumerate(text) if char.isdigit()), len(text))


def _reading(number: PhoneNumber, changes: list[str]) -> Reading:
    if number.raw_input:
        changes = [*changes, number.raw_input]
    return Reading(phonenumbers.format_number(number, PhoneNumberFormat.E164), tuple(dict.fromkeys(changes)))


def _is_mobile(number: PhoneNumber) -> bool:
    return phonenumbers.number_type(number) in _MOBILE_KINDS


def _has_many_lengths(number: PhoneNumber) -> bool:
    """Whether numbers of this kind have many lengths, so that nearly any digits are a valid number."""
    region = phonenumbers.region_code_for_number(number)
    metadata = PhoneMetadata.metadata_for_region(region) if region else None
    kind = phonenumbers.number_type(number)
    if metadata is None or kind not in (PhoneNumberType.FIXED_LINE, *_MOBILE_KINDS):
        return True
    described = metadata.mobile if kind == PhoneNumberType.MOBILE else metadata.fixed_line
    return described is None or len(described.possible_length) > _MANY_LENGTHS


def _count_digits(text: str) -> int:
    return sum(char.isdigit() for char in text)


def _digits_of(exponent: re.Match[str]) -> str:
    """The digits of a number in scientific notation; empty if some are lost."""
    first, decimals, power = exponent[1], exponent[2] or "", int(exponent[3])
    shown = len(first + decimals)
    is_complete = shown == power + 1 or (shown == power and shown >= _MIN_SHOWN_DIGITS)
    return (first + decimals).ljust(power + 1, "0") if is_complete and power < _MAX_DIGITS else ""


@lru_cache(maxsize=1)  # reading and normalising a number ask it twice
def _is_e164(text: str) -> bool:
    """Whether the text is clearly a valid number in E.164. It takes half the time of parsing.

    False also if only parsing can decide: after a trunk prefix, or a zero that can be part of the number.
    """
    code, national = _split(text)
    if not code:
        return False
    region = phonenumbers.region_code_for_country_code(code)
    metadata = PhoneMetadata.metadata_for_region_or_calling_code(code, region)
    prefix = metadata and metadata.national_prefix_for_parsing
    if prefix and re.match(prefix, national):
        return False
    return phonenumbers.is_valid_number(PhoneNumber(country_code=code, national_number=int(national)))


def _split(text: str) -> tuple[int, str]:
    """The country code and national number of E.164 text; (0, "") for other text, or if the number starts with 0."""
    rest = text[1:]
    if text[:1] == "+" and len(rest) <= _MAX_DIGITS and rest.isascii() and rest.isdigit():
        for length in range(1, _MAX_CODE_LENGTH + 1):
            code, national = int(rest[:length]), rest[length:]
            if code in phonenumbers.COUNTRY_CODE_TO_REGION_CODE and national[:1] not in ("", "0"):
                return code, national
    return 0, ""
