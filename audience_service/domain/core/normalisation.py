"""Normalises names for comparison: without case, diacritics, punctuation and the variants of Chinese characters."""

import re
import unicodedata
from functools import cache
from importlib.resources import files

from audience_service.domain.core.punctuation import APOSTROPHES

_LETTERS = str.maketrans(
    {"ß": "ss", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ħ": "h", "ŧ": "t", "ı": "i"}
)
"""Letters that Unicode does not decompose into a plain letter and a mark."""

_WITHOUT_APOSTROPHES = dict.fromkeys(map(ord, APOSTROPHES))
"""They separate no words: "Xi'an" is one word. They are dropped first, because NFKD makes a space of some."""

_ABBREVIATION = re.compile(r"\b(?:[^\W\d_]\.){2,}")
"""Single letters with a full stop after each: "U.K.", "D.C."."""


def normalise(text: str) -> str:
    """`text` without case, diacritics and punctuation, with single spaces between words: "São-Tomé" is "sao tome".

    Compatibility forms become plain ones (NFKD). Combining signs and invisible characters are dropped in every script,
    so a query without them finds the name. Abbreviations lose their full stops: "U.K." is "uk". Traditional Chinese
    characters become simplified ones. The result can be empty. Indexes are built with this function.
    """
    lowered = text.casefold().translate(_WITHOUT_APOSTROPHES)
    if not lowered.isascii():
        # Compatibility forms can decompose into upper case ("№" is "No"), so this folds the case again.
        lowered = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", lowered).casefold()).translate(_LETTERS)
        lowered = lowered.translate(_simplified())
    if "." in lowered:
        lowered = _ABBREVIATION.sub(lambda found: found[0].replace(".", ""), lowered)
    return " ".join("".join(_normalise_char(char) for char in lowered).split())


def _normalise_char(char: str) -> str:
    if char.isalnum():
        return char
    if unicodedata.combining(char):
        return ""
    category = unicodedata.category(char)
    if category == "Cf":
        return ""
    # Vowel signs, such as those of Indian scripts, are letters and do not combine.
    return char if category in ("Mn", "Mc") else " "


@cache
def _simplified() -> dict[int, int]:
    """The simplified form of each traditional Chinese character."""
    text = (files("audience_service.domain.core") / "data/simplified.txt").read_text(encoding="utf-8")
    return {ord(line[0]): ord(line[1]) for line in text.splitlines()}
