"""How time alone changes memberships: which records crossed a date of the filter, and when the next one will.

Example: the filter is `lastOpened >= $$NOW - 30 days`. It is 1 March 2026, 12:00, so the relative date is 30 January,
12:00. Contact a last opened an email on 30 January at 13:00, contact b on 20 February.

    next_trigger     Within a day, the relative date moves to 31 January, 12:00. The database finds the records with
                     lastOpened in that range: a. The relative date reaches the value of a at 13:00. So the next scan
                     is due on 1 March, 13:00.
    crossing_ranges  By that scan, the relative date has moved to 30 January, 13:00. The records with lastOpened in
                     that range are the candidates of the scan: a, but not b.

1. Every record that time alone moved has a date in one of the crossing ranges, so an incremental scan finds it.
2. `next_trigger` is never later than the first such change. It may be earlier: then the scan finds no change.
3. Moving operands name their own instants: `next_trigger` is no later than the next one, whichever records it moves.
4. A window of a sequence that must be over ends one millisecond after its last instant. `next_trigger` reads the dates
   of the related records that began it, and `crossings` finds their contacts by a relation.
5. Both need ranges of fields only. `$$NOW` in `$expr`, and relative dates in conditions on related records, are
   unpredictable instead.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from audience_service.domain.core.clock import MILLISECOND, truncate_to_milliseconds
from audience_service.domain.core.context import Deadline
from audience_service.domain.core.record import Record
from audience_service.domain.explain.change_forecast import ChangeForecaster
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.ast import (
    And,
    Condition,
    ElementIs,
    ElementMatch,
    Node,
    Or,
    Related,
    Then,
    Window,
    joins,
    walk,
)
from audience_service.domain.filters.compiler import compile_node, to_match, without_joins
from audience_service.domain.filters.date_timeline import RelativeDateTimeline
from audience_service.domain.filters.dates import compare_conditions, iso_text, read_instant
from audience_service.domain.filters.filter import Document
from audience_service.domain.filters.operators import OPERATORS
from audience_service.domain.filters.population import Population
from audience_service.domain.filters.rebase_dates import (
    evaluate_as_of,
    has_other_time_dependence,
    moving_operands,
    record_timezones,
    relative_dates,
)
from audience_service.domain.filters.record_timezones import ZonedDate, timezone_classes, unknown_timezone
from audience_service.domain.filters.relative_dates import ResolvedDate
from audience_service.domain.schema.projection import get_path

LOOKAHEADS = (timedelta(days=1), timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1))
"""How far `next_trigger` looks ahead: the longest time in which fewer than SAMPLE_LIMIT records have a crossing."""
SAMPLE_LIMIT = 200
"""The most records that `next_trigger` reads for one lookahead."""

FindRecords = Callable[[str, Sequence[Document], Sequence[str]], list[Record]]
"""Returns up to SAMPLE_LIMIT records of a datatype that meet any of the conditions, with their values at the paths."""


@dataclass(frozen=True, slots=True)
class _DatePath:
    """The path of a record field, and the relative date that a condition compares it with."""

    path: str
    date: ResolvedDate


def depends_on_time(population: Population) -> bool:
    """Whether time alone may change the members."""
    return isinstance(population, CompiledFilter) and (
        any(_date_paths(population.node)) or any(moving_operands(population.node)) or has_unpredictable_time(population)
    )


def has_unpredictable_time(population: Population) -> bool:
    """Whether time may change the members by anything else than relative dates against the record's own fields."""
    return isinstance(population, CompiledFilter) and has_other_time_dependence(population.node)


def change_stream_datatype(population: Population) -> str:
    """The datatype whose records alone decide membership; "" if other collections do as well."""
    return population.datatype if isinstance(population, CompiledFilter) and not population.joins else ""


def at_time(population: Population, timestamp: datetime) -> Population:
    """The population with its relative dates evaluated at `timestamp`. Raises InvalidFilter."""
    if not isinstance(population, CompiledFilter):
        return population
    return compile_node(population.datatype, evaluate_as_of(population.node, timestamp), population.field_path)


def crossing_ranges(population: Population, since: datetime, until: datetime) -> list[Document]:
    """Conditions that find every record whose membership time alone may have changed after `since`, up to `until`.

    Each is a range that an index on its field serves. They may find a few more records, such as one with two dates in
    the field.
    """
    if not isinstance(population, CompiledFilter) or until <= since:
        return []
    found = _date_ranges(population, since, until)
    for path, operand in moving_operands(population.node):
        found += operand.crossing_conditions(path, since, until)
    return found


def crossings(population: Population, since: datetime, until: datetime) -> list[CompiledFilter]:
    """Filters of the records in `crossing_ranges`, and of those with a window that ended in the same time."""
    if not isinstance(population, CompiledFilter) or until <= since:
        return []
    ranges = crossing_ranges(population, since, until)
    found = [CompiledFilter(population.datatype, {"$or": ranges})] if ranges else []
    relations = []
    for first, window in _windows(population.node):
        low, high = _window_starts(window, since, until)
        dates = (
            Condition(first.at, OPERATORS["$gte"], iso_text(low)),
            Condition(first.at, OPERATORS["$lte"], iso_text(high)),
        )
        relations.append(Related(first.datatype, first.local, first.foreign, And((first.query, *dates)), 1, None))
    if relations:
        found.append(compile_node(population.datatype, Or(tuple(relations))))
    return found


def _windows(node: Node) -> Iterator[tuple[Related, Window]]:
    """The sequences of a node whose window must be over, each with the window."""
    for join in joins(node):
        if isinstance(join, Related) and isinstance(join.test, Then) and join.test.now and join.test.within:
            yield join, join.test.within


def _window_starts(window: Window, since: datetime, until: datetime) -> tuple[datetime, datetime]:
    """The first and last dates of records whose window is over after `since`, but by `until`."""
    length = timedelta(milliseconds=window.milliseconds)
    low, high = truncate_to_milliseconds(since), truncate_to_milliseconds(until)
    return low - length, high - length - MILLISECOND


def _date_ranges(population: CompiledFilter, since: datetime, until: datetime) -> list[Document]:
    found: list[Document] = []
    for date_path in _date_paths(population.node):
        date = date_path.date
        if isinstance(date, ZonedDate):
            found += _zoned_ranges(date_path.path, date, since, until)
        else:
            found += [{date_path.path: bounds} for bounds in _range_conditions(*_span(date.expression, since, until))]
    return found


def _zoned_ranges(path: str, date: ZonedDate, since: datetime, until: datetime) -> Iterator[Document]:
    """The ranges of a date in the timezones of records, without timezones in which the date does not move."""
    names_by_span = defaultdict[tuple[datetime, datetime], list[str]](list)
    for timezone in timezone_classes():
        names_by_span[_span(date.in_timezone(timezone.names[0]), since, until)] += timezone.names
    default = _span(date.in_timezone(date.timezone.default), since, until)
    selections = [(span, {date.timezone.path: {"$in": names}}) for span, names in names_by_span.items()]
    for (low, high), selection in [*selections, (default, unknown_timezone(date.timezone))]:
        if low < high:
            for bounds in _range_conditions(low, high):
                yield {"$and": [selection, {path: bounds}]}


def _span(expression: Mapping[str, Any], since: datetime, until: datetime) -> tuple[datetime, datetime]:
    return RelativeDateTimeline(expression, since, until + timedelta(milliseconds=1)).span


def next_trigger(
    population: Population, timestamp: datetime, find_records: FindRecords, deadline: Deadline
) -> datetime | None:
    """A time before which time alone changes no membership; None if it never does. Raises OutOfTime."""
    if not isinstance(population, CompiledFilter):
        return None
    triggers = [_next_crossing(population, timestamp, find_records, deadline), _next_boundary(population, timestamp)]
    triggers += [_next_end(first, window, timestamp, find_records) for first, window in _windows(population.node)]
    return min((trigger for trigger in triggers if trigger), default=None)


def _next_boundary(population: CompiledFilter, timestamp: datetime) -> datetime | None:
    """The next instant within the longest lookahead at which a moving operand changes, or else the lookahead's end."""
    end = timestamp + LOOKAHEADS[0]
    operands = [operand for _, operand in moving_operands(population.node)]
    boundaries = [instant for operand in operands for instant in operand.boundaries(timestamp, end)[:1]]
    return min([*boundaries, end]) if operands else None


def _next_end(first: Related, window: Window, timestamp: datetime, find_records: FindRecords) -> datetime:
    """A time up to which no window of a sequence ends."""
    match = to_match(without_joins(first.query))
    for lookahead in LOOKAHEADS:
        low, high = _window_starts(window, timestamp, timestamp + lookahead)
        ranges = [{"$and": [match, {first.at: bounds}]} for bounds in _range_conditions(low, high)]
        records = find_records(first.datatype, ranges, [_projectable_path(first.at)])
        if len(records) < SAMPLE_LIMIT:
            dates = [_date(get_path(record, first.at.split("."))) for record in records]
            length = timedelta(milliseconds=window.milliseconds) + MILLISECOND
            ends = [date + length for date in dates if date]
            return min([*(end for end in ends if end > timestamp), timestamp + lookahead])
    return timestamp + LOOKAHEADS[-1]


def _date(value: Any) -> datetime | None:
    instant = read_instant(value)
    return instant.timestamp if instant else value if isinstance(value, datetime) else None


def _next_crossing(
    population: CompiledFilter, timestamp: datetime, find_records: FindRecords, deadline: Deadline
) -> datetime | None:
    """A time before which no relative date reaches or leaves a date of a record."""
    if not any(_date_paths(population.node)):
        return None
    read = [condition.path for condition in _conditions(population.node)]
    read += [timezone.path for node in walk(population.node) for timezone in record_timezones(node)]
    paths = sorted(set(map(_projectable_path, read)))
    for lookahead in LOOKAHEADS:
        ranges = _date_ranges(population, timestamp, timestamp + lookahead)
        records = find_records(population.datatype, ranges, paths) if ranges else []
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
            for date in relative_dates(condition):
                yield _DatePath(path, date)


def _projectable_path(path: str) -> str:
    """The path, or its first field if the path has a list index, which a projection cannot name."""
    steps = path.split(".")
    return ".".join(steps[: 2 if steps[0] == "data" else 1]) if any(map(str.isdecimal, steps)) else path


def _range_conditions(low: datetime, high: datetime) -> Iterator[Document]:
    """The conditions on a field for dates from `low` to `high`, stored as dates or as text."""
    lower_bounds, upper_bounds = compare_conditions("$gte", iso_text(low)), compare_conditions("$lte", iso_text(high))
    for lower, upper in zip(lower_bounds, upper_bounds, strict=True):
        yield {name: bound for name, bound in {**lower, **upper}.items() if name != "$regex"}
