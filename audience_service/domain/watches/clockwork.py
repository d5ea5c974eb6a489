"""Where time alone moves records in or out: which dates the relative dates of a filter pass, and when they do next."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from audience_service.domain.caller import Deadline
from audience_service.domain.explanations.flips import Horizon
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.compile import of_node
from audience_service.domain.filters.dates import iso_text, ordered
from audience_service.domain.filters.filter import Document
from audience_service.domain.filters.moments import as_of, depends_on_more, relative_dates
from audience_service.domain.filters.moving import MovingDate
from audience_service.domain.filters.nodes import Condition, ElementIs, ElementMatch, Node, walk
from audience_service.domain.ports import Population, Record

AHEAD = (timedelta(days=1), timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1))
"""How far is looked for the next passage; less far where there are too many to look at."""
LOOKED_AT = 200
"""Records that are looked at for it."""

Dated = Callable[[Sequence[Document], Sequence[str]], list[Record]]
"""Asks for up to LOOKED_AT records that meet any of some conditions, with what they have at some paths."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A relative date, as written, and the path of the field that it is compared with."""

    path: str
    written: Mapping[str, Any]


def ticks(population: Population) -> bool:
    """Whether time alone may change who is in."""
    return isinstance(population, CompiledFilter) and (any(_places(population.node)) or ticks_unseen(population))


def ticks_unseen(population: Population) -> bool:
    """Whether time may change who is in by more than dates beside the record's own fields: that is not foreseen."""
    return isinstance(population, CompiledFilter) and depends_on_more(population.node)


def follows(population: Population) -> str:
    """The datatype whose records alone tell who is in, "" where a look into other collections does."""
    return population.datatype if isinstance(population, CompiledFilter) and not population.joined else ""


def at_moment(population: Population, moment: datetime) -> Population:
    """The population with its relative dates as they are at a moment. Raises InvalidFilter."""
    if not isinstance(population, CompiledFilter):
        return population
    return of_node(population.datatype, as_of(population.node, moment), population.place)


def passages(population: Population, since: datetime, until: datetime) -> list[Document]:
    """Conditions of which every record meets one whom time alone may have moved behind `since`, up to `until`.

    They are ranges that an index on the field serves. A record that has several dates there may meet one without need.
    """
    if not isinstance(population, CompiledFilter) or until <= since:
        return []
    found = []
    for place in _places(population.node):
        low, high = MovingDate(place.written, since, until + timedelta(milliseconds=1)).span
        found += [{place.path: within} for within in _between(low, high)]
    return found


def next_passage(population: Population, moment: datetime, dated: Dated, deadline: Deadline) -> datetime | None:
    """When time may next move anybody: at that moment or later, never sooner; None where time moves nobody."""
    if not isinstance(population, CompiledFilter) or not any(_places(population.node)):
        return None
    paths = sorted({_outermost(condition.path) for condition in _conditions(population.node)})
    for ahead in AHEAD:
        records = dated(passages(population, moment, moment + ahead), paths)
        if len(records) < LOOKED_AT:
            horizon = Horizon(moment, deadline, ahead)
            moments = [found for record in records for found in horizon.outlook(population.node, record).moments]
            return min([*moments, moment + ahead])
    return moment + AHEAD[-1]


def _conditions(node: Node) -> Iterator[Condition | ElementMatch | ElementIs]:
    for condition in walk(node):
        if isinstance(condition, Condition | ElementMatch | ElementIs) and any(relative_dates(condition)):
            yield condition


def _places(node: Node, within: str = "") -> Iterator[_Place]:
    for condition in _conditions(node):
        path = f"{within}{condition.path}"
        if isinstance(condition, ElementMatch):
            yield from _places(condition.query, f"{path}.")
        else:
            for written in relative_dates(condition):
                yield _Place(path, written)


def _outermost(path: str) -> str:
    """The field that a path begins with, where it leads through a place in a list, which a projection cannot name."""
    steps = path.split(".")
    return ".".join(steps[: 2 if steps[0] == "data" else 1]) if any(map(str.isdecimal, steps)) else path


def _between(low: datetime, high: datetime) -> Iterator[Document]:
    """The conditions on a field that holds a date, as such or as text, from one moment to another."""
    lows, highs = ordered("$gte", iso_text(low)), ordered("$lte", iso_text(high))
    for least, most in zip(lows, highs, strict=True):
        yield {name: bound for name, bound in {**least, **most}.items() if name != "$regex"}
