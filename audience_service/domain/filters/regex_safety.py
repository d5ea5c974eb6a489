"""Refuses regular expressions whose backtracking could take exponential time, or a high power of the text's length.

The check compares two sets of characters: `first`, with which an item may begin, and `follow`, which may come after it.

    ^Mun.*        accepted: one wide repeat
    (a+b)+        accepted: after each character, the next one decides: a continues a+, b ends it
    (a+)+         refused: the next a may continue a+ or start it again, so n characters have 2^n readings
    (a|ab)+       refused: an a may start either alternative
    .*.*          refused: the two repeats can divide n characters in n ways

A pattern is refused if it has any of these:

1. A reference to the text of a group: such patterns have no bound at all.
2. Inside a repeat of 4 or more, a repeat or an alternative for which the next character does not decide the way.
3. More than 4 wide repeats (of more than 20 times), or two adjacent ones that take the same characters.
4. More than 20 repeats of any kind, or more than 10 alternatives that may begin alike.

   Only repeats for which the next character does not decide the way count. Literal alternatives count only if one is
   the beginning of another: acme|apple is decided by the text.
5. A bounded repeat of more than 1,000 times, which takes memory instead of time.

Source: one-unambiguous regular expressions (Brüggemann-Klein and Wood, 1998). If the next character always decides how
a loop continues, the loop runs in one pass.
"""

import importlib
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

# Python warns that a bracket in a set may get another meaning. The database's syntax does not change.
warnings.filterwarnings("ignore", message="Possible (nested set|set )", category=FutureWarning)

# The standard library's parser. pcre.py translates what Python's syntax lacks.
_sre: Any = importlib.import_module("re._parser")

_LOOP, _WIDE, _MAX_WIDE, _MAX_REPEATS, _MAX_ALIKE, _MAX_TIMES = 4, 20, 4, 20, 10, 1_000

# Sets of characters as bits. Each ASCII character has its own bit. Others share bits, which at worst refuses a pattern
# that is safe.
_ASCII, _SHARED = 128, 128
_OTHERS = ((1 << _SHARED) - 1) << _ASCII
_EVERY = (1 << _ASCII + _SHARED) - 1

_CATEGORIES = {
    kind: sum(1 << code for code in range(_ASCII) if re.fullmatch(members, chr(code)))
    for kind, members in (("DIGIT", r"\d"), ("WORD", r"\w"), ("SPACE", r"\s"))
}
_REPEATS = frozenset(("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"))
_GROUPS = frozenset(("SUBPATTERN", "ATOMIC_GROUP"))
_SINGLE = frozenset(("LITERAL", "NOT_LITERAL", "ANY", "IN"))

# Comments may contain brackets and bars, which the check would read as syntax.
_COMMENT = re.compile(r"\(\?#")
_VERBOSE = re.compile(r"\(\?[a-z]*x")

# The bar of an alternative (group 1), or an escape or set, which may contain a bar that is a character.
_BAR = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|(\|)", re.DOTALL)
_IGNORE_CASE_FLAG = re.compile(r"\(\?[a-z]*i")

Item = tuple[Any, Any]


class DangerousPattern(ValueError):
    """A pattern may take unreasonable time; the message names the reason."""


@lru_cache(maxsize=1_024)
def check_backtracking(pattern: str, flags: re.RegexFlag = re.NOFLAG) -> None:
    """Raise DangerousPattern if a pattern may backtrack too long, and re.error if it is not a pattern."""
    if _COMMENT.search(pattern) or ("#" in pattern and (flags & re.VERBOSE or _VERBOSE.search(pattern))):
        raise DangerousPattern("contains a comment, or a # that may begin one; escape it or remove it")
    # An empty lookahead keeps the parser from merging a|[ab] into one set, which the database's matcher does not do.
    separated = _BAR.sub(lambda found: found[0] + "(?=)" if found[1] else found[0], pattern)
    ignore_case = bool(flags & re.IGNORECASE or _IGNORE_CASE_FLAG.search(pattern))
    _Check(ignore_case=ignore_case).check(list(_sre.parse(separated, int(flags))))


class _Check:
    """One traversal of a parsed pattern."""

    def __init__(self, *, ignore_case: bool) -> None:
        self._ignore_case = ignore_case
        self._first_by_id: dict[int, tuple[int, bool]] = {}
        self._wide = self._repeats = self._alike = 0

    def check(self, items: Sequence[Item]) -> None:
        """Check a complete pattern. Raises DangerousPattern."""
        self._sequence(items, 0, in_loop=False)
        if self._wide > _MAX_WIDE:
            raise DangerousPattern(f"has more than {_MAX_WIDE} repeats of more than {_WIDE}, like .* and \\d+")
        if self._repeats > _MAX_REPEATS:
            raise DangerousPattern(f"has more than {_MAX_REPEATS} repeats")
        if self._alike > _MAX_ALIKE:
            raise DangerousPattern(f"has more than {_MAX_ALIKE} alternatives that may begin alike")

    def _sequence(self, items: Sequence[Item], follow: int, *, in_loop: bool) -> None:
        """Check a sequence. `follow` are the characters that may come after it; they matter only inside a loop."""
        before = 0  # the characters that an adjacent wide repeat takes
        for (operation, argument), after in zip(items, self._followers(items, follow), strict=True):
            name = str(operation)
            if name.startswith("GROUPREF"):
                raise DangerousPattern("refers back to the text of a group")
            if name in _REPEATS:
                before = self._repeat(argument, after, before, in_loop=in_loop)
                continue
            if name == "BRANCH":
                self._branches(argument[1], after, in_loop=in_loop)
            elif name in _GROUPS:
                self._sequence(_inside(name, argument), after, in_loop=in_loop)
            elif name in ("ASSERT", "ASSERT_NOT"):
                self._sequence(list(argument[1]), 0, in_loop=False)
            if not self._first_of(name, argument)[1]:
                before = 0

    def _followers(self, items: Sequence[Item], follow: int) -> list[int]:
        """The characters that may come after each item of a sequence."""
        followers = []
        for operation, argument in reversed(items):
            followers.append(follow)
            first, may_be_empty = self._first_of(str(operation), argument)
            follow = first | (follow if may_be_empty else 0)
        return followers[::-1]

    def _repeat(self, argument: Any, after: int, before: int, *, in_loop: bool) -> int:
        """Check a repeat. Returns the characters that it takes if it is wide, 0 otherwise."""
        min_times, max_times, body = int(argument[0]), int(argument[1]), list(argument[2])
        first, may_be_empty = self._first(body)
        is_wide = max_times > _WIDE
        if min_times > _MAX_TIMES or _MAX_TIMES < max_times < int(_sre.MAXREPEAT):
            raise DangerousPattern(f"repeats something more than {_MAX_TIMES:,} times")
        is_decided = not first & after
        self._repeats += min_times != max_times and not is_decided
        self._wide += is_wide and not is_decided
        if in_loop and min_times != max_times and first & after:
            raise DangerousPattern("repeats, inside a repeat, characters that may also follow, like (a+)+")
        if max_times >= _LOOP and may_be_empty:
            raise DangerousPattern("repeats an item that may be empty, like (a*)*")
        if is_wide and first == before:
            raise DangerousPattern("has two adjacent repeats of the same characters, like .*.*")
        # In a loop, the body may follow itself.
        loop = in_loop or (max_times >= _LOOP and not self._is_delimited(body))
        self._sequence(body, (first if max_times > 1 else 0) | after, in_loop=loop)
        return first if is_wide and not self._has_other_item(body, first) else 0

    def _has_other_item(self, items: Sequence[Item], characters: int) -> bool:
        """Whether a sequence always takes a character that is not among these: `([a-z]+,)+` next to `[a-z]+`."""
        for operation, argument in _unwrap(items):
            found, may_be_empty = self._first_of(str(operation), argument)
            if not may_be_empty and not found & characters:
                return True
        return False

    def _is_delimited(self, items: Sequence[Item]) -> bool:
        """Whether a loop's body begins or ends with a character that its rest lacks, and the rest has only one reading.

        Then each occurrence of the character begins or ends a pass: `(?:,[a-z](?:[a-z-]{0,61}[a-z])?)*`
        """
        parts = _unwrap(items)
        for delimiter, rest in ((parts[:1], parts[1:]), (parts[-1:], parts[:-1])):
            if rest and str(delimiter[0][0]) in _SINGLE:
                found, _ = self._first(delimiter)
                if not found & self._all_characters(rest) and _has_one_reading(rest):
                    return True
        return False

    def _all_characters(self, items: Sequence[Item]) -> int:
        characters = 0
        for operation, argument in items:
            name = str(operation)
            if name in _SINGLE:
                characters |= self._first_of(name, argument)[0]
            elif name in _REPEATS:
                characters |= self._all_characters(list(argument[2]))
            elif name in _GROUPS:
                characters |= self._all_characters(_inside(name, argument))
            elif name == "BRANCH":
                characters |= _union(self._all_characters(list(branch)) for branch in argument[1])
        return characters

    def _branches(self, branches: Iterable[Any], after: int, *, in_loop: bool) -> None:
        branches, seen = list(branches), 0
        if (words := _literal_words(branches, ignore_case=self._ignore_case)) is not None:
            shared = _shared_beginnings(words)
            if shared and in_loop:
                raise DangerousPattern("has alternatives that may begin alike inside a repeat, like (a|ab)+")
            self._alike += shared
            return
        for branch in branches:
            first, may_be_empty = self._first(list(branch))
            first |= after if may_be_empty else 0
            if seen & first:
                if in_loop:
                    raise DangerousPattern("has alternatives that may begin alike inside a repeat, like (a|ab)+")
                self._alike += 1
            seen |= first
            self._sequence(list(branch), after, in_loop=in_loop)

    def _first(self, items: Sequence[Item]) -> tuple[int, bool]:
        """The characters that a sequence may begin with, and whether it may be empty."""
        characters = 0
        for operation, argument in items:
            found, may_be_empty = self._first_of(str(operation), argument)
            characters |= found
            if not may_be_empty:
                return characters, False
        return characters, True

    def _first_of(self, name: str, argument: Any) -> tuple[int, bool]:
        if not isinstance(argument, tuple | list):
            return self._read_first(name, argument)
        # Ids are unique, since the pattern's tree exists as long as this object.
        if id(argument) not in self._first_by_id:
            self._first_by_id[id(argument)] = self._read_first(name, argument)
        return self._first_by_id[id(argument)]

    def _read_first(self, name: str, argument: Any) -> tuple[int, bool]:
        if name in _REPEATS:
            found, may_be_empty = self._first(list(argument[2]))
            return found, may_be_empty or int(argument[0]) == 0
        if name in _GROUPS:
            return self._first(_inside(name, argument))
        if name == "BRANCH":
            parts = [self._first(list(branch)) for branch in argument[1]]
            return _union(found for found, _ in parts), any(empty for _, empty in parts)
        if name in _SINGLE:
            return _characters(name, argument, ignore_case=self._ignore_case), False
        return 0, True  # items without characters: ^, $, \\b, lookarounds


def _unwrap(items: Sequence[Item]) -> Sequence[Item]:
    """The items of a sequence, or of the group that is its only item."""
    while len(items) == 1 and str(items[0][0]) in _GROUPS:
        items = _inside(str(items[0][0]), items[0][1])
    return items


def _has_one_reading(items: Sequence[Item]) -> bool:
    """Whether a sequence can match a text of some length in one way only: at most one item has a variable length."""
    variable = 0
    for operation, argument in items:
        name = str(operation)
        if name in _GROUPS:
            if not _has_one_reading(_inside(name, argument)):
                return False
            variable += 1
        elif name in _REPEATS:
            body = _unwrap(list(argument[2]))
            is_single = len(body) == 1 and str(body[0][0]) in _SINGLE
            is_optional = (int(argument[0]), int(argument[1])) == (0, 1) and _has_one_reading(body)
            has_length = any(str(item[0]) in _SINGLE for item in body)
            if not (is_single or (is_optional and has_length)):
                return False
            variable += 1
        elif name not in _SINGLE:
            return False
    return variable <= 1


def _literal_words(branches: Sequence[Any], *, ignore_case: bool) -> list[str] | None:
    """The alternatives as words; None if one of them is more than a word."""
    words = []
    for branch in branches:
        items = [item for item in branch if not (str(item[0]) == "ASSERT" and not list(item[1][1]))]
        if any(str(name) != "LITERAL" for name, _ in items):
            return None
        word = "".join(chr(code) for _, code in items)
        words.append(word.casefold() if ignore_case else word)
    return words


def _shared_beginnings(words: Sequence[str]) -> int:
    """The most other words that one of the words begins with: how many alternatives can match at one position."""
    counts = Counter(words)
    most = 0
    for word in counts:
        prefixes = sum(counts[word[:length]] for length in range(len(word)) if word[:length] in counts)
        most = max(most, prefixes + counts[word] - 1)
    return most


def _inside(name: str, argument: Any) -> list[Item]:
    return list(argument[-1] if name == "SUBPATTERN" else argument)


def _characters(name: str, argument: Any, *, ignore_case: bool) -> int:
    """The characters that an item takes, in both cases if the pattern ignores case."""
    if name == "LITERAL":
        return _bit(argument, ignore_case=ignore_case)
    if name == "NOT_LITERAL":
        return _EVERY & ~(1 << argument) if argument < _ASCII else _EVERY
    if name == "ANY":
        return _EVERY
    if name == "RANGE":
        low, high = argument
        inside = _union(_bit(code, ignore_case=ignore_case) for code in range(low, min(high + 1, _ASCII)))
        return inside | (_OTHERS if high >= _ASCII else 0)
    if name == "CATEGORY":
        _, *negated, kind = str(argument).split("_")
        return (_EVERY & ~_CATEGORIES[kind] if negated else _CATEGORIES[kind]) | _OTHERS
    members = [item for item in argument if str(item[0]) != "NEGATE"]
    found = _union(_characters(str(operation), inner, ignore_case=ignore_case) for operation, inner in members)
    return (_EVERY & ~found) | _OTHERS if len(members) < len(argument) else found


def _bit(code: int, *, ignore_case: bool) -> int:
    cases = {code, *(ord(case) for case in (chr(code).lower(), chr(code).upper()) if ignore_case and len(case) == 1)}
    return _union(1 << (case if case < _ASCII else _ASCII + case % _SHARED) for case in cases)


def _union(masks: Iterable[int]) -> int:
    union = 0
    for mask in masks:
        union |= mask
    return union
