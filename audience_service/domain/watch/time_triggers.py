"""Where time alone moves records in or out: which dates the relative dates of a filter pass, and when they do next."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.record import Record
from audience_service.domain.explain.change_forecast import ChangeForecaster
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.ast import Condition, ElementIs, ElementMatch, Node, walk
from audience_service.domain.filters.compiler import compile_node
from audience_service.domain.filters.date_timeline import RelativeDateTimeline
from audience_service.domain.filters.dates import compare_conditions, iso_text
from audience_service.domain.filters.filter import Document
from audience_service.domain.filters.population import Population
from audience_service.domain.filters.rebase_dates import evaluate_as_of, has_other_time_dependence, relative_dates

LOOKAHEADS = (timedelta(days=1), timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1))
"""How far is looked for the next passage; less far where there are too many to look at."""
SAMPLE_LIMIT = 200
"""Records that are looked at for it."""

FindRecords = Callable[[Sequence[Document], Sequence[str]], list[Record]]
"""Asks for up to LOOKED_AT records that meet any of some conditions, with what they have at some paths."""


@dataclass(frozen=True, slots=True)
class _DatePath:
    """A relative date, as written, and the path of the field that it is compared with."""

    path: str
    expression: Mapping[str, Any]


def depends_on_time(population: Population) -> bool:
    """Whether time alone may change who is in."""
    return isinstance(population, CompiledFilter) and (
        any(_date_paths(population.node)) or has_unpredictable_time(population)
    )


def has_unpredictable_time(population: Population) -> bool:
    """Whether time may change who is in by more than dates beside the record's own fields: that is not foreseen."""
    return isinstance(population, CompiledFilter) and has_other_time_dependence(population.node)


def change_stream_datatype(population: Population) -> str:
    """The datatype whose records alone tell who is in, "" where a look into other collections does."""
    return population.datatype if isinstance(population, CompiledFilter) and not population.joins else ""


def at_time(population: Population, timestamp: datetime) -> Population:
    """The population with its relative dates as they are at a moment. Raises InvalidFilter."""
    if not isinstance(population, CompiledFilter):
        return population
    return compile_node(population.datatype, evaluate_as_of(population.node, timestamp), population.field_path)


def crossing_ranges(population: Population, since: datetime, until: datetime) -> list[Document]:
    """Conditions of which every record meets one whom time alone may have moved behind `since`, up to `until`.

    They are ranges that an index on the field serves. A record that has several dates there may meet one without need.
    """
    if not isinstance(population, CompiledFilter) or until <= since:
        return []
    found = []
    for date_path in _date_paths(population.node):
        low, high = RelativeDateTimeline(date_path.expression, since, until + timedelta(milliseconds=1)).span
        found += [{date_path.path: bounds} for bounds in _range_conditions(low, high)]
    return found


def next_trigger(
    population: Population, timestamp: datetime, find_records: FindRecords, deadline: Deadline
) -> datetime | None:
    """When time may next move anybody: at that moment or later, never sooner; None where time moves nobody."""
    if not isinstance(population, CompiledFilter) or not any(_date_paths(population.node)):
        return None
    paths = sorted({_projectable_path(condition.path) for condition in _conditions(population.node)})
    for lookahead in LOOKAHEADS:
        records = find_records(crossing_ranges(population, timestamp, timestamp + lookahead), paths)
        if len(records) < SAMPLE_LIMIT:
            forecaster = ChangeForecaster(timestamp, deadline, lookahead)
            change_times = [found for record in records for found in forecaster.forecast(population.node, record).times]
            return min([*change_times, timestamp + lookahead])
    return timestamp + LOOKAHEADS[-1]


def _conditions(node: Node) -> Iterator[Condition | ElementMatch | ElementIs]:
    for condition in walk(node):
        if isinstance(condition, Condition | ElementMatch | ElementIs) and any(relative_dates(condition)):
            yield condition


def _date_paths(node: Node, prefix: str = "") -> Iterator[_DatePath]:
    for condition in _conditions(node):
        path = f"{prefix}{condition.path}"
        if isinstance(condition, ElementMatch):
            yield from _date_paths(condition.query, f"{path}.")
        else:
            for expression in relative_dates(condition):
                yield _DatePath(path, expression)


def _projectable_path(path: str) -> str:
    """The field that a path begins with, where it leads through a place in a list, which a projection cannot name."""
    steps = path.split(".")
    return ".".join(steps[: 2 if steps[0] == "data" else 1]) if any(map(str.isdecimal, steps)) else path


def _range_conditions(low: datetime, high: datetime) -> Iterator[Document]:
    """The conditions on a field that holds a date, as such or as text, from one moment to another."""
    lower_bounds, upper_bounds = compare_conditions("$gte", iso_text(low)), compare_conditions("$lte", iso_text(high))
    for lower, upper in zip(lower_bounds, upper_bounds, strict=True):
        yield {name: bound for name, bound in {**lower, **upper}.items() if name != "$regex"}
