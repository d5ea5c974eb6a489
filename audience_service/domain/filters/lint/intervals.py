"""Whether bounds on a single value exclude each other."""

import math
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from audience_service.domain.filters.dates import read_instant
from audience_service.domain.filters.lint.literals import Literal
from audience_service.domain.filters.record_timezones import ZonedDate

_NUMBER, _TEXT, _DATE, _BOOL = "number", "text", "date", "bool"
_EITHER = {_TEXT, _DATE}
"""The kinds that one field may mix, since an ISO date also matches text."""


def find_contradiction(literals: Iterable[Literal]) -> Literal | None:
    """The first literal that contradicts those before it; None if some value may meet all of them."""
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
            return None  # text and dates have no common order
        # Of two bounds at the same value, the exclusive one is tighter.
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
    """The kind of a value and its sort key within the kind; an empty kind if the order is unknown."""
    if isinstance(value, ZonedDate):
        return "", None
    if isinstance(value, bool):
        return _BOOL, value
    if isinstance(value, int | float):
        return ("", None) if math.isnan(value) else (_NUMBER, value)
    if isinstance(value, datetime):
        return (_DATE, value) if value.tzinfo else ("", None)
    if instant := read_instant(value):
        return _DATE, instant.timestamp
    return (_TEXT, value) if isinstance(value, str) else ("", None)
