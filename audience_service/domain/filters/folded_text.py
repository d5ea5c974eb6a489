"""Patterns that find text regardless of case, accents and the form of its letters.

    José    finds    jose, JOSÉ, and José with a combining accent
    strasse finds    Straße

The text is folded: without marks, in lower case, with plain apostrophes, dashes and spaces. Each letter of the folded
text becomes the set of the letters that fold to it. A collation of strength 1 would do the same, but it would also fold
`sk` and every other text of the query, and lose their indexes.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from audience_service.domain.core.punctuation import APOSTROPHES, DASHES

_PLAIN = str.maketrans(
    {
        **dict.fromkeys(APOSTROPHES, "'"), **dict.fromkeys(DASHES, "-"),
        **dict.fromkeys("\u00a0\u2007\u202f", " "),
        "ø": "o", "ł": "l", "đ": "d", "ð": "d", "ħ": "h", "ı": "i", "ŧ": "t", "æ": "ae", "œ": "oe", "þ": "th",
    }
)  # fmt: skip
_MARKS = "[\u0300-\u036f]*"
_MARK_CODES = range(0x300, 0x370)
_FOLDED_CODES = (*range(0xA0, 0x2070), *map(ord, APOSTROPHES + DASHES))
"""The characters that may fold to another one."""
_MAX_PATTERN = 16_000
"""Characters of one pattern. MongoDB refuses patterns above 32,764 bytes."""


def fold(text: str) -> str:
    """The text in lower case, without accents, and with plain apostrophes, dashes and spaces."""
    letters = unicodedata.normalize("NFD", text).casefold().translate(_PLAIN)
    plain = "".join(letter for letter in letters if ord(letter) not in _MARK_CODES)
    return unicodedata.normalize("NFC", plain)


def patterns(texts: Sequence[str], start: str = "", end: str = "") -> Iterator[str]:
    """The patterns of which one matches if any of the texts is found, between `start` and `end`. Use the option i."""
    batch: list[str] = []
    for body in map(_pattern, texts):
        if batch and sum(map(len, batch)) + len(body) > _MAX_PATTERN:
            yield _join(batch, start, end)
            batch = []
        batch.append(body)
    yield _join(batch, start, end)


def _join(bodies: Sequence[str], start: str, end: str) -> str:
    return f"{start}{bodies[0] if len(bodies) == 1 else '(?:' + '|'.join(bodies) + ')'}{end}"


@lru_cache(maxsize=4_096)
def _pattern(text: str) -> str:
    folded, position, parts = fold(text), 0, []
    while position < len(folded):
        pair = folded[position : position + 2]
        if pair in _variants() and len(pair) == 2:
            parts.append(f"(?:{''.join(_letter(letter) for letter in pair)}|[{''.join(_variants()[pair])}])")
            position += 2
        else:
            parts.append(_letter(folded[position]))
            position += 1
    return "".join(parts)


def _letter(letter: str) -> str:
    variants = _variants().get(letter, ())
    found = f"[{re.escape(letter)}{''.join(variants)}]" if variants else re.escape(letter)
    decomposed = unicodedata.normalize("NFD", letter)
    if decomposed != letter:
        found = f"(?:{found}|{decomposed})"
    return found + _MARKS if letter.isalpha() else found


@lru_cache(maxsize=1)
def _variants() -> Mapping[str, Sequence[str]]:
    """The characters, in lower case, that fold to one or two other ones, by these."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for code in _FOLDED_CODES:
        letter = chr(code)
        folded = fold(letter)
        if 0 < len(folded) <= 2 and folded not in (letter, letter.lower()):
            lower = letter.lower()
            found[folded][lower if len(lower) == 1 and lower != folded else letter] = None
    return {folded: tuple(letters) for folded, letters in found.items()}
