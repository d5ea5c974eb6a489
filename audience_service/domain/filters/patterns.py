"""Regular expressions that the database can be trusted with: valid, short, and without endless backtracking.

A backtracking matcher takes exponential time where a loop can consume one text in several ways, and a high power of the
text's length where wide repeats can share it out among them. What is refused, in the order it is checked:

- a reference to what a group has matched: such patterns have no bound at all;
- inside a repeat of 4 or more, a repeat or an alternative that leaves open which way a character is read;
- more than 4 wide repeats (of more than 20), or two of them side by side that take the same characters;
- more than 20 repeats of any kind, or 10 alternatives that may begin alike.

Source of the reasoning: one-unambiguous regular expressions (Brüggemann-Klein and Wood, 1998): a loop in which the next
character always decides where to go on runs in one pass.
"""

import importlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

# The standard library's own parser: it knows the syntax better than any second one would.
_sre: Any = importlib.import_module("re._parser")

_LOOP, _WIDE, _MOST_WIDE, _MOST_REPEATS, _MOST_ALIKE = 4, 20, 4, 20, 10

# Characters as bits: ASCII each for itself, others many to a bit, which at worst takes two for alike that are not.
_ASCII, _SHARED = 128, 128
_OTHERS = ((1 << _SHARED) - 1) << _ASCII
_EVERY = (1 << _ASCII + _SHARED) - 1

_CATEGORIES = {"DIGIT": r"\d", "WORD": r"\w", "SPACE": r"\s"}
_REPEATS = frozenset(("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"))
_GROUPS = frozenset(("SUBPATTERN", "ATOMIC_GROUP"))

Item = tuple[Any, Any]


class DangerousPattern(ValueError):
    """A pattern may take time without a reasonable bound; the message says what in it."""


@dataclass(slots=True)
class _Tally:
    wide: int = 0
    repeats: int = 0
    alike: int = 0


def check_backtracking(pattern: str, flags: re.RegexFlag = re.NOFLAG) -> None:
    """Raise DangerousPattern for what may backtrack without end. Raises re.error for what is no pattern."""
    tally = _Tally()
    _check(list(_sre.parse(pattern, int(flags))), 0, tally, in_loop=False)
    if tally.wide > _MOST_WIDE:
        raise DangerousPattern(f"has more than {_MOST_WIDE} repeats of more than {_WIDE}, like .* and \\d+")
    if tally.repeats > _MOST_REPEATS:
        raise DangerousPattern(f"has more than {_MOST_REPEATS} repeats")
    if tally.alike > _MOST_ALIKE:
        raise DangerousPattern(f"has more than {_MOST_ALIKE} alternatives that may begin alike")


def _check(items: Sequence[Item], follow: int, tally: _Tally, *, in_loop: bool) -> None:
    """Check a sequence. `follow` are the characters that may come after it, which counts inside a loop alone."""
    before = 0  # what the wide repeat just before takes
    for position, (operation, argument) in enumerate(items):
        name = str(operation)
        first, may_be_empty = _first(items[position + 1 :])
        after = first | (follow if may_be_empty else 0)
        if name.startswith("GROUPREF"):
            raise DangerousPattern("refers back to what a group has matched")
        if name in _REPEATS:
            before = _check_repeat(argument, after, before, tally, in_loop=in_loop)
            continue
        if name == "BRANCH":
            _check_branches(argument[1], after, tally, in_loop=in_loop)
        elif name in _GROUPS:
            _check(_inside(name, argument), after, tally, in_loop=in_loop)
        elif name in ("ASSERT", "ASSERT_NOT"):
            _check(list(argument[1]), 0, tally, in_loop=False)
        if not _first([(operation, argument)])[1]:
            before = 0


def _check_repeat(argument: Any, after: int, before: int, tally: _Tally, *, in_loop: bool) -> int:
    """Check a repeat; answers with the characters that it takes if it is a wide one."""
    least, most, body = int(argument[0]), int(argument[1]), list(argument[2])
    first, may_be_empty = _first(body)
    wide = most > _WIDE
    tally.repeats += least != most
    tally.wide += wide
    if in_loop and least != most and first & after:
        raise DangerousPattern("repeats, inside a repeat, what may also follow it, like (a+)+")
    if most >= _LOOP and may_be_empty:
        raise DangerousPattern("repeats what may be empty, like (a*)*")
    if wide and first == before:
        raise DangerousPattern("has two repeats of the same side by side, like .*.*")
    # Within a loop, what follows the body is the body again.
    loop = in_loop or most >= _LOOP
    _check(body, (first if most > 1 else 0) | after, tally, in_loop=loop)
    return first if wide else 0


def _check_branches(branches: Iterable[Any], after: int, tally: _Tally, *, in_loop: bool) -> None:
    seen = 0
    for branch in branches:
        first, may_be_empty = _first(list(branch))
        first |= after if may_be_empty else 0
        if seen & first:
            if in_loop:
                raise DangerousPattern("has alternatives that may begin alike inside a repeat, like (a|ab)+")
            tally.alike += 1
        seen |= first
        _check(list(branch), after, tally, in_loop=in_loop)


def _first(items: Sequence[Item]) -> tuple[int, bool]:
    """The characters that a sequence may begin with, and whether it may be empty."""
    characters = 0
    for operation, argument in items:
        found, may_be_empty = _first_of(str(operation), argument)
        characters |= found
        if not may_be_empty:
            return characters, False
    return characters, True


def _first_of(name: str, argument: Any) -> tuple[int, bool]:
    if name in _REPEATS:
        found, may_be_empty = _first(list(argument[2]))
        return found, may_be_empty or int(argument[0]) == 0
    if name in _GROUPS:
        return _first(_inside(name, argument))
    if name == "BRANCH":
        parts = [_first(list(branch)) for branch in argument[1]]
        return _union(found for found, _ in parts), any(empty for _, empty in parts)
    if name in ("LITERAL", "NOT_LITERAL", "ANY", "IN"):
        return _characters(name, argument), False
    return 0, True  # what takes no character: ^, $, \b, a look around


def _inside(name: str, argument: Any) -> list[Item]:
    return list(argument[-1] if name == "SUBPATTERN" else argument)


def _characters(name: str, argument: Any) -> int:
    """The characters that an item takes, in either case: whether case counts is another field's to say."""
    if name == "LITERAL":
        return _bit(argument)
    if name == "NOT_LITERAL":
        return _EVERY & ~(1 << argument) if argument < _ASCII else _EVERY
    if name == "ANY":
        return _EVERY
    if name == "RANGE":
        low, high = argument
        return _union(_bit(code) for code in range(low, min(high + 1, _ASCII))) | (_OTHERS if high >= _ASCII else 0)
    if name == "CATEGORY":
        _, *negated, kind = str(argument).split("_")
        inside = re.compile(_CATEGORIES[kind], re.ASCII)
        found = _union(1 << code for code in range(_ASCII) if bool(inside.fullmatch(chr(code))) is not bool(negated))
        return found | _OTHERS
    found = _union(_characters(str(operation), inner) for operation, inner in argument if str(operation) != "NEGATE")
    return (_EVERY & ~found) | _OTHERS if str(argument[0][0]) == "NEGATE" else found


def _bit(code: int) -> int:
    """A character, in either case."""
    cases = {code, *(ord(case) for case in (chr(code).lower(), chr(code).upper()) if len(case) == 1)}
    return _union(1 << (case if case < _ASCII else _ASCII + case % _SHARED) for case in cases)


def _union(masks: Iterable[int]) -> int:
    union = 0
    for mask in masks:
        union |= mask
    return union
