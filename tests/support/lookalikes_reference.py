"""A lookalike's model computed in Python from the records, as docs/reference/custom-audiences.md defines it.

Of the service it takes the dampings of given covariances alone, which have tests of their own.
"""

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bson.datetime_ms import DatetimeMS

from audience_service.domain.lookalikes.decorrelation import decorrelation_weights
from tests.support.insights_reference import (
    ABSENT,
    PATHS,
    is_date_string,
    number_label,
    number_of,
    recency,
    second_of,
    value_at,
)

Record = dict[str, Any]
MISSING, OTHER = "(missing)", "(other)"
FIELD_PATHS = {f"data.{name}": PATHS[name] for name in ("country", "region", "city", "company", "score")}
FIELD_PATHS["data.createdAt"] = PATHS["created"]
MIN_BUCKET_SIZE = 5


@dataclass
class Field:
    """A field of the model: by value its weight and counts; and what others count for."""

    path: str
    multi_valued: bool
    bin_edges: list[float]
    labels: dict[Hashable, str]
    logs: dict[Hashable, float] = field(default_factory=dict)
    counts: dict[Hashable, tuple[int, int]] = field(default_factory=dict)
    other: float = 0.0
    others: tuple[int, int] = (0, 0)
    information_value: float = 0.0
    decorrelation: float = 0.0

    def score(self, record: Record, now: datetime, decorrelation: float) -> int:
        """What the record's values count for, in thousandths."""
        known = {self.binned(value) for value in values(record, self.path, now)}
        found = {value if value in self.logs else OTHER for value in known}
        return sum(round(self.logs.get(value, self.other) * decorrelation * 1000) for value in found)

    def binned(self, value: Hashable) -> Hashable:
        """A value, or the start of the band that it is in."""
        if self.bin_edges and isinstance(value, tuple) and value[0] == "number":
            return "number", max((cut for cut in self.bin_edges if cut <= value[1]), default=self.bin_edges[0])
        return value


def values(record: Record, path: str, now: datetime) -> set[Hashable]:
    """The different values of a record: None if there is none, dates by their band, invalid values as text."""
    paths = FIELD_PATHS.get(path, [path])
    found: Any = ABSENT
    for path_of_value in paths:
        found = value_at(record, path_of_value.split("."))
        is_value = isinstance(found, str | bool | int | float | datetime | DatetimeMS) or hasattr(found, "to_decimal")
        if (is_value or isinstance(found, list)) and found not in ("", []):
            break
    items = (found or [None]) if isinstance(found, list) else [found]
    return {value_of(item, now) for item in items}


def value_of(item: Any, now: datetime) -> Hashable:
    """One of them."""
    if item is ABSENT or item is None or item == "":
        return None
    if isinstance(item, str):
        timestamp = second_of(item) if is_date_string(item) else None
        return ("date", recency(timestamp, now)) if timestamp else ("text", item)
    if isinstance(item, bool):
        return "bool", item
    if isinstance(item, datetime | DatetimeMS):
        timestamp = second_of(item)
        assert timestamp
        return "date", recency(timestamp, now)
    number = None if isinstance(item, list | dict) else number_of(item)
    return ("junk", repr(item)) if number is None else ("number", number)


def suppressed_positions(counts: Sequence[int]) -> set[int]:
    """The places of small counts, and of the next greater ones until they come to LEAST."""
    small = [position for position, count in enumerate(counts) if 0 < count < MIN_BUCKET_SIZE]
    if small:
        for _, position in sorted(
            (count, position) for position, count in enumerate(counts) if count >= MIN_BUCKET_SIZE
        ):
            if sum(counts[position] for position in small) >= MIN_BUCKET_SIZE:
                break
            small.append(position)
    return set(small)


def log_of(seed: int, baseline: int, seed_size: int, baseline_size: int) -> float:
    """The smoothed logarithm; 0 where few have the value."""
    if 0 < seed < MIN_BUCKET_SIZE or 0 < baseline < MIN_BUCKET_SIZE:
        return 0.0
    return math.log((seed + 5) / (seed_size * baseline / baseline_size + 5))


def format_number(number: float) -> str:
    """A number as a factor's name has it."""
    return number_label(number) if abs(number) < 1e15 else repr(number)


ORDER = {"NoneType": 0, "number": 1, "text": 2, "bool": 3, "date": 4}


def model_of(
    paths: Sequence[str],
    all_records: Sequence[Record],
    seed: Sequence[Record],
    training: Sequence[Record],
    now: datetime,
) -> list[Field]:
    """The fields in the order of an answer, dampings included."""
    fields = [_field(path, all_records, seed, training, now) for path in paths]
    baseline_size = len(all_records) - len(seed)
    scores = [[made.score(record, now, 1) for made in fields] for record in all_records]
    sums, count = [sum(column) for column in zip(*scores, strict=True)], len(all_records)
    size = range(len(fields))
    covariance = [
        [(count * sum(row[i] * row[j] for row in scores) - sums[i] * sums[j]) / count**2 / 1000**2 for j in size]
        for i in size
    ]
    part = len(training) / (len(training) + baseline_size)
    for made, decorrelation in zip(
        fields, decorrelation_weights(covariance, [made.information_value for made in fields], part), strict=True
    ):
        made.decorrelation = decorrelation
    return sorted(fields, key=lambda made: (-made.information_value, made.path))


def _field(
    path: str, all_records: Sequence[Record], seed: Sequence[Record], training: Sequence[Record], now: datetime
) -> Field:
    """One field, its damping aside."""
    baseline_size = len(all_records) - len(seed)
    of = [values(record, path, now) for record in all_records]
    counts = Counter(value for found in of for value in found)
    numbers = sorted(value[1] for value in counts if isinstance(value, tuple) and value[0] == "number")
    lists = any(
        isinstance(value_at(record, p.split(".")), list)
        for record in all_records
        for p in FIELD_PATHS.get(path, [path])
    )
    made = Field(path, lists and any(len(found) > 1 for found in of), [], {})
    labels: dict[Hashable, str] = {}
    if len(numbers) > 20:
        total, below, bands = sum(counts["number", number] for number in numbers), 0, dict[int, list[float]]()
        for number in numbers:
            bands.setdefault(below * 10 // total, []).append(number)
            below += counts["number", number]
        made.bin_edges = [band[0] for band in bands.values()]
        labels = {
            ("number", band[0]): f"{format_number(band[0])} to {format_number(band[-1])}" for band in bands.values()
        }
    org, theirs, learning = (
        Counter(value for r in records for value in {made.binned(v) for v in values(r, path, now)})
        for records in (all_records, seed, training)
    )
    usable: list[Any] = [
        v for v in list[Any](org) if v is None or (v[0] != "junk" and not (v[0] == "text" and len(v[1]) > 100))
    ]
    usable = [v for v in usable if counts[v] >= MIN_BUCKET_SIZE or v in labels or (v and v[0] == "number")]

    def rank(value: Any) -> Any:
        kind = value[0] if value else "NoneType"
        first = kind in ("NoneType", "date") or value in labels
        return (
            not first,
            -org[value],
            ORDER[kind],
            value[1].encode() if kind == "text" else value[1:] if value else (),
        )

    candidates = sorted(usable, key=rank)[:200]
    cells = [(value, learning[value], org[value] - theirs[value]) for value in candidates]
    remainder = (None, len(training) - sum(c[1] for c in cells), baseline_size - sum(c[2] for c in cells))
    with_remainder = cells if made.multi_valued else [*cells, remainder]
    suppressed = suppressed_positions([c[1] for c in with_remainder]) | suppressed_positions(
        [c[2] for c in with_remainder]
    )
    disclosed = [cell for position, cell in enumerate(cells) if position not in suppressed and cell[1] + cell[2]]

    def label(value: Any) -> str:
        if value is None:
            return MISSING
        if value in labels:
            return labels[value]
        return (
            format_number(value[1])
            if value[0] == "number"
            else str(value[1]).lower()
            if value[0] == "bool"
            else value[1]
        )

    def divergence(seed_count: int, base_count: int, log: float) -> float:
        return (seed_count / len(training) - base_count / baseline_size) * log

    logs = {value: log_of(s, b, len(training), baseline_size) for value, s, b in disclosed}
    disclosed.sort(key=lambda c: (-divergence(c[1], c[2], logs[c[0]]), label(c[0])))
    for value, seed_count, base_count in disclosed[:50]:
        made.logs[value], made.counts[value] = logs[value], (seed_count, base_count)
        made.labels[value] = label(value)
        made.information_value += divergence(seed_count, base_count, logs[value])
    if not made.multi_valued:
        made.others = (
            max(len(training) - sum(c[0] for c in made.counts.values()), 0),
            max(baseline_size - sum(c[1] for c in made.counts.values()), 0),
        )
        made.other = log_of(*made.others, len(training), baseline_size)
        made.information_value += divergence(*made.others, made.other)
    return made
