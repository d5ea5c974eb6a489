"""Normalises names for comparison: without case, diacritics and punctuation."""

import unicodedata

_LETTERS = str.maketrans(
    {"ß": "ss", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ħ": "h", "ŧ": "t", "ı": "i"}
)
"""Letters that Unicode does not decompose into a plain letter and a mark."""

_DROPPED = frozenset("'’‘ʼʻ`´ʹʿʾ")
"""Apostrophes and similar signs. They separate no words: "Xi'an" is one word."""


def normalise(text: str) -> str:
    """`text` without case, diacritics and punctuation, with single spaces between words: "São-Tomé" is "sao tome".

    Compatibility forms become plain ones (NFKD). Combining signs are dropped in every script, so a query without them
    finds the name. The result can be empty. The index was built with this function.
    """
    lowered = text.casefold()
    if not lowered.isascii():
        # Compatibility forms can decompose into upper case ("№" is "No"), so this folds the case again.
        lowered = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", lowered).casefold()).translate(_LETTERS)
    return " ".join("".join(_normalise_char(char) for char in lowered).split())


def _normalise_char(char: str) -> str:
    if char.isalnum():
        return char
    if char in _DROPPED or unicodedata.combining(char):
        return ""
    # Vowel signs, such as those of Indian scripts, are letters and do not combine.
    return char if unicodedata.category(char) in ("Mn", "Mc", "Cf") else " "
