"""The lint rule on patterns in the form of other languages, which are compared as plain text here.

/ca/i        JavaScript     {"$regex": "ca", "$options": "i"}
%gmail%      SQL's LIKE     {"$containsText": "gmail"}
*@gmail.com  wildcards      {"$endsWithText": "@gmail.com"}
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from audience_service.domain.filters.ast import Condition
from audience_service.domain.filters.lint.linted_filter import LintedFilter
from audience_service.domain.filters.lint.warning import FilterWarning, LintRule
from audience_service.domain.filters.operators import TEXT_OPERATORS, Pattern

_SLASHED = re.compile(r"/(?P<body>.+)/(?P<flags>(?=[a-z]*[ig])[gimsuy]{1,4})", re.DOTALL)
"""A pattern between slashes with flags. Without flags it may be a path: /blog/."""
_ANCHORED = re.compile(r"/(?P<body>\^.*|.*(?<!\\)\$)/(?P<flags>[gimsuy]{0,4})", re.DOTALL)
"""A pattern between slashes with an anchor: a slash before ^, or after $, never matches."""
_WILDCARDS = re.compile(r"(?P<start>[%*]?)(?P<text>[^%*?_/\\]{2,})(?P<end>[%*]?)")
_CALL = re.compile(
    r"(?:new\s+)?RegExp\(\s*(?P<quote>['\"])(?P<body>(?:(?!(?P=quote)).)*)(?P=quote)\s*(?:,\s*['\"](?P<flags>\w*)['\"])?\s*\)"
)
_EQUALITIES = ("$eq", "$ne", "$in", "$nin", "$all")
_OPTIONS = "ims"


def find_foreign_patterns(linted: LintedFilter) -> Iterator[FilterWarning]:
    """The texts and patterns that have the form of a pattern in another language."""
    for node in linted.nodes:
        if isinstance(node, Condition) and (cure := _cure_of(node)):
            if node.operator.name in ("$ne", "$nin"):
                cure = f'{{"$not": {cure}}}'
            text = f"compares with the text itself, which has the form of a pattern elsewhere; write {cure}"
            yield FilterWarning(node.field_path, LintRule.PATTERN_AS_TEXT, text)


def _cure_of(node: Condition) -> str:
    name, operand = node.operator.name, node.operand
    if isinstance(operand, Pattern):
        return _pattern_cure(operand.text, is_pattern=True)
    if name not in (*_EQUALITIES, *TEXT_OPERATORS):
        return ""
    values: list[Any] = operand if isinstance(operand, list) else [operand]
    texts = [value.text if isinstance(value, Pattern) else value for value in values]
    return next((cure for text in texts if isinstance(text, str) and (cure := _pattern_cure(text))), "")


def _pattern_cure(text: str, *, is_pattern: bool = False) -> str:
    """What to write instead of a text or a pattern; empty if it has no such form."""
    slashed = _SLASHED.fullmatch(text) or _ANCHORED.fullmatch(text) or _CALL.fullmatch(text)
    if slashed:
        written = {"$regex": slashed["body"].replace("\\/", "/")}
        options = "".join(letter for letter in _OPTIONS if letter in (slashed["flags"] or ""))
        return json.dumps(written | ({"$options": options} if options else {}), ensure_ascii=False)
    found = _WILDCARDS.fullmatch(text)
    if found is None or not any(map(str.isalpha, found["text"])) or not (found["start"] or found["end"]):
        return ""
    if is_pattern and "*" in (found["start"], found["end"]):
        return ""  # a repeat of the pattern
    if not found["start"] and (found["end"] == "%" or not found["text"].isalnum()):
        return ""  # a percentage, or a footnote
    name = (
        "$containsText" if found["start"] and found["end"] else "$endsWithText" if found["start"] else "$startsWithText"
    )
    return json.dumps({name: found["text"]}, ensure_ascii=False)
