"""Whether bounds on a single value exclude one another."""

import math
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from audience_service.domain.filters.dates import read_instant
from audience_service.domain.filters.lint.literals import Literal

_NUMBER, _TEXT, _DATE, _BOOL = "number", "text", "date", "bool"
_EITHER = {_TEXT, _DATE}
"""An ISO date is compared with text, too."""


def find_contradiction(literals: Iterable[Literal]) -> Literal | None:
    """The literal that no value meets which meets those before it; None where some value may meet all."""
    kinds: set[str] = set()
    low: tuple[Any, bool] | None = None
    high: tuple[Any, bool] | None = None
    for literal in literals:
        if not literal.is_positive or literal.name not in ("$eq", "$gt", "$gte", "$lt", "$lte"):
            continue
        kind, value = _sort_key(literal.operand)
        if not kind:
            continue
        kinds.add(kind)
        if len(kinds) > 1:
            if not kinds <= _EITHER:
                return literal
            return None  # what is text and a date in one cannot be told
        # Of two bounds on the same value, the one that leaves it out is the tighter.
        if literal.name in ("$eq", "$gt", "$gte"):
            bound = (value, literal.name == "$gt")
            low = bound if low is None else max(low, bound)
        if literal.name in ("$eq", "$lt", "$lte"):
            bound = (value, literal.name != "$lt")
            high = bound if high is None else min(high, bound)
        if low and high and (low[0] > high[0] or (low[0] == high[0] and (low[1] or not high[1]))):
            return literal
    return None


def _sort_key(value: Any) -> tuple[str, Any]:
    """The kind of a value and what it is ordered by among its kind; no kind where that is left open."""
    if isinstance(value, bool):
        return _BOOL, value
    if isinstance(value, int | float):
        return ("", None) if math.isnan(value) else (_NUMBER, value)
    if isinstance(value, datetime):
        return (_DATE, value) if value.tzinfo else ("", None)
    if instant := read_instant(value):
        return _DATE, instant.timestamp
    return (_TEXT, value) if isinstance(value, str) else ("", None)
