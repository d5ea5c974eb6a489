"""Names as they are compared: without case, marks and punctuation."""

import unicodedata

_LETTERS = str.maketrans(
    {"ß": "ss", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ħ": "h", "ŧ": "t", "ı": "i"}
)
"""Letters that Unicode does not take apart into a plain one and a mark."""

_DROPPED = frozenset("'’‘ʼʻ`´ʹʿʾ")
"""Apostrophes and the like: they part no words, "Xi'an" is one."""


def normalise(text: str) -> str:
    """`text` without case, diacritics and punctuation, its words parted by single spaces: "São-Tomé" is "sao tome".

    Compatibility forms become plain ones (NFKD), and signs that combine are dropped in every script, so that what is
    typed without them finds it. Empty where nothing is left. The index is built with this same function.
    """
    lowered = text.casefold()
    if not lowered.isascii():
        # Case goes again from what compatibility forms are made of: "№" is "No".
        lowered = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", lowered).casefold()).translate(_LETTERS)
    return " ".join("".join(_normalise_char(char) for char in lowered).split())


def _normalise_char(char: str) -> str:
    if char.isalnum():
        return char
    if char in _DROPPED or unicodedata.combining(char):
        return ""
    # Vowel signs of the scripts of India and their like stand for letters and do not combine.
    return char if unicodedata.category(char) in ("Mn", "Mc", "Cf") else " "
