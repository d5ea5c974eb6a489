"""Conditions on dates in the timezones of records, as alternatives with constant dates. See record_timezones."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from audience_service.domain.filters.ast import Condition, Node
from audience_service.domain.filters.filter import Document
from audience_service.domain.filters.operators import OPERATORS
from audience_service.domain.filters.rebase_dates import replace_zoned_dates
from audience_service.domain.filters.record_timezones import (
    ZonedDate,
    timezone_classes,
    unknown_timezone,
)

_POSITIVE = {"$ne": "$eq", "$nin": "$in"}
_BOUNDS = ("$gt", "$gte", "$lt", "$lte")


def timezone_match(node: Node, dates: Sequence[ZonedDate], to_match: Callable[[Node], Document]) -> Document:
    """The match of a condition whose `dates` are in the timezones of records; `to_match` compiles the condition.

    Raises InvalidFilter if a date leaves the calendar.
    """
    if isinstance(node, Condition) and node.operator.name in _POSITIVE:
        positive = replace(node, operator=OPERATORS[_POSITIVE[node.operator.name]])
        return {"$nor": [timezone_match(positive, dates, to_match)]}

    def dated(texts: Sequence[str]) -> Document:
        text_by_date = {id(date): text for date, text in zip(dates, texts, strict=True)}
        return to_match(replace_zoned_dates(node, lambda date: text_by_date[id(date)]))

    path = dates[0].timezone.path
    names_by_texts = defaultdict[tuple[str, ...], list[str]](list)
    for found, texts in zip(timezone_classes(), zip(*(date.values() for date in dates), strict=True), strict=True):
        names_by_texts[texts] += found.names
    groups = [{"$and": [{path: {"$in": names}}, dated(texts)]} for texts, names in names_by_texts.items()]
    default_texts = tuple(str(date) for date in dates)
    default = {"$and": [unknown_timezone(dates[0].timezone), dated(default_texts)]}
    selected: Document = {"$or": [*groups, default]}
    if not isinstance(node, Condition):
        return selected
    # Few records need their timezone: the others meet the condition in every timezone, or in none.
    if node.operator.name in _BOUNDS:
        in_order = sorted([*names_by_texts, default_texts], reverse=node.operator.name in ("$lt", "$lte"))
        return {"$or": [dated(in_order[-1]), {"$and": [dated(in_order[0]), selected]}]}
    in_any = replace(node, operator=OPERATORS["$in"], operand=_values_in_any(node, [*names_by_texts, default_texts]))
    return {"$and": [to_match(in_any), selected]}


def _values_in_any(node: Condition, texts: Sequence[tuple[str, ...]]) -> list[Any]:
    """The values that meet an $eq or $in in any timezone."""
    others = (
        [value for value in node.operand if not isinstance(value, ZonedDate)] if node.operator.name == "$in" else []
    )
    return [*others, *sorted({text for each in texts for text in each})]
