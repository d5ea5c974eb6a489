r"""Patterns of PCRE in the syntax of Python, for checks alone: the database receives the pattern as it is written.

    \p{L}          the letters of ASCII, and every other character
    [[:alpha:]]    the same, without others
    ^(?i)x         x, and the option i

The translation matches at least what the pattern matches, so that a check for ambiguity stays true.

Source: PCRE2 manual, pcre2pattern.
"""

import re
from dataclasses import dataclass

_OTHERS = "\\x80-\\U0010ffff"
_EVERY = "\\x00-\\U0010ffff"
_PROPERTIES = {
    "L": f"a-zA-Z{_OTHERS}", "N": f"0-9{_OTHERS}", "M": _OTHERS, "Z": f" {_OTHERS}", "C": f"\\x00-\\x1f\\x7f{_OTHERS}",
    "P": f"!-/:-@\\[-`{{-~{_OTHERS}", "S": f"!-/:-@\\[-`{{-~{_OTHERS}",
}  # fmt: skip
"""The characters of a Unicode category, by its first letter. Scripts and other properties can be any character."""
_POSIX = {
    "alpha": "a-zA-Z", "digit": "0-9", "alnum": "a-zA-Z0-9", "upper": "A-Z", "lower": "a-z", "space": "\\t-\\r ",
    "blank": "\\t ", "punct": "!-/:-@\\[-`{-~", "xdigit": "0-9a-fA-F", "word": "\\w", "cntrl": "\\x00-\\x1f\\x7f",
    "graph": "!-~", "print": " -~", "ascii": "\\x00-\\x7f",
}  # fmt: skip
_ESCAPES = {
    "h": "\\t ", "H": _EVERY, "v": "\\n\\x0b\\f\\r", "V": _EVERY, "N": "^\\n", "e": "\\x1b",
}  # fmt: skip
_GROUPS = {"\\R": "(?:\\r\\n|[\\n\\x0b\\f\\r])", "\\X": "(?:.)", "\\K": "(?:)", "\\G": "(?:)", "\\z": "\\Z"}
_TOKEN = re.compile(
    r"\\Q(?P<quoted>.*?)(?:\\E|\Z)|\\(?P<property>[pP])(?:\{(?P<name>\^?[\w ]+)\}|(?P<short>[A-Z]))"
    r"|\\x\{(?P<code>[0-9a-fA-F]{1,6})\}|\\(?P<escape>.)|\(\?(?P<flags>[imsnxJU]+|[imsnxJU]*-[imsnxJU]+|\^[imsnx]*)\)"
    r"|\(\?(?:<(?![=!])(?P<group>\w+)>|'(?P<group2>\w+)')|(?P<reset>\(\?\|)"
    r"|(?P<recursion>\(\?(?:R|[+-]?\d+|&\w+|P>\w+|C\d*)\))|(?P<verb>\(\*\w)|(?P<set>\[\^?\]?)",
    re.DOTALL,
)
_IN_SET = re.compile(
    r"\[:(?P<posix>\^?\w*):\]|(?P<collation>\[[.=])|\\Q(?P<quoted>.*?)(?:\\E|\Z)"
    r"|\\(?P<property>[pP])(?:\{(?P<name>\^?[\w ]+)\}|(?P<short>[A-Z]))|\\x\{(?P<code>[0-9a-fA-F]{1,6})\}"
    r"|\\(?P<escape>.)|(?P<open>\[)|(?P<end>\])",
    re.DOTALL,
)


class UnsupportedPattern(ValueError):
    """A pattern uses syntax that PCRE lacks, or that the service refuses; the message names it."""


@dataclass(frozen=True, slots=True)
class Translation:
    """A pattern in Python's syntax; `ignore_case` if an option inside it makes letter cases equal."""

    pattern: str
    ignore_case: bool


def translate(pattern: str) -> Translation:
    """The pattern in Python's syntax. Raises UnsupportedPattern."""
    parts: list[str] = []
    position, ignore_case = 0, False
    while found := _TOKEN.search(pattern, position):
        parts.append(pattern[position : found.start()])
        position = found.end()
        if flags := found["flags"]:
            if "x" in flags:
                raise UnsupportedPattern("turns on the option x inside; write it in $options")
            ignore_case = ignore_case or "i" in flags.partition("-")[0]
        elif name := found["group"] or found["group2"]:
            parts.append(f"(?P<{name}>")
        elif found["reset"]:
            parts.append("(?:")
        elif found["recursion"] or found["verb"]:
            raise UnsupportedPattern(f"contains {found[0]!r}: recursion and verbs may take unreasonable time")
        elif found["set"]:
            text, position = _set(pattern, found.end())
            parts.append(found[0] + text)
        else:
            parts.append(_outside(found))
    return Translation("".join(parts) + pattern[position:], ignore_case)


def _outside(found: re.Match[str]) -> str:
    if found["quoted"] is not None:
        return re.escape(found["quoted"])
    if found["property"]:
        return f"[{_property(found)}]"
    if found["code"]:
        return _code(found["code"])
    escape = found["escape"]
    if found[0] in _GROUPS:
        return _GROUPS[found[0]]
    if escape in "uU" or (escape == "N" and found.string[found.end() : found.end() + 1] == "{"):
        raise UnsupportedPattern(f"contains {found[0]!r}, which PCRE does not support; write \\x{{...}}")
    return f"[{_ESCAPES[escape]}]" if escape in _ESCAPES else found[0]


def _set(pattern: str, position: int) -> tuple[str, int]:
    """The rest of a set in Python's syntax, and the position after it."""
    parts: list[str] = []
    while found := _IN_SET.search(pattern, position):
        parts.append(pattern[position : found.start()])
        position = found.end()
        if found["end"]:
            return "".join([*parts, "]"]), position
        parts.append(_member(found))
    return "".join(parts) + pattern[position:], len(pattern)


def _member(found: re.Match[str]) -> str:
    if (posix := found["posix"]) is not None:
        if posix.lstrip("^") not in _POSIX:
            raise UnsupportedPattern(f"names the class [:{posix}:]; the classes are {', '.join(_POSIX)}")
        return _EVERY if posix.startswith("^") else _POSIX[posix]
    if found["collation"]:
        raise UnsupportedPattern(f"contains {found[0]!r}, which PCRE does not support")
    if found["quoted"] is not None:
        return re.escape(found["quoted"])
    if found["property"]:
        return _property(found)
    if found["code"]:
        return _code(found["code"])
    if found["open"]:
        return "\\["
    escape = found["escape"]
    if escape in "uU" or (escape == "N"):
        raise UnsupportedPattern(f"contains {found[0]!r}, which PCRE does not support in a set; write \\x{{...}}")
    return _ESCAPES.get(escape, found[0])


def _property(found: re.Match[str]) -> str:
    name = found["name"] or found["short"]
    return _EVERY if found["property"] == "P" or name[:1] == "^" or len(name) > 2 else _PROPERTIES.get(name[:1], _EVERY)


def _code(digits: str) -> str:
    code = int(digits, 16)
    if code > 0x10FFFF:
        raise UnsupportedPattern(f"contains \\x{{{digits}}}, which is no character")
    return f"\\U{code:08x}"
