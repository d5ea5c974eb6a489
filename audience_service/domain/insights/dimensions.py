"""The dimensions that an audience's insights break it down by: a row each. A newcomer is one more row."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from audience_service.domain.core.errors import InvalidArgument, InvalidFilter
from audience_service.domain.filters.fields import record_path
from audience_service.domain.schema.sample_masking import is_personal

MAX_DIMENSIONS = 20


class DimensionKind(StrEnum):
    """How values become buckets: `text` a bucket a value, `date` and `number` a bucket a band.

    `list` is text of which a record may have several values, `any` whatever stands at a path: a bucket a value.
    Numbers have quantiles.
    """

    TEXT = "text"
    DATE = "date"
    NUMBER = "number"
    LIST = "list"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Band:
    """A bucket of dates or numbers that are at least `start`, and less than the start of the band above it.

    None as `start` takes all that no other band takes; None as `label` says that a value there is no valid one.
    """

    label: str | None
    start: Any


Bands = Callable[[datetime], tuple[Band, ...]]
"""The bands as of a moment (in whole seconds), the highest first and one without a start last."""


def _no_bands(_: datetime) -> tuple[Band, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class Dimension:
    """One dimension. A record's value is the first at one of `paths`, in this order, that is not empty."""

    name: str
    kind: DimensionKind
    paths: tuple[str, ...]
    bands: Bands = _no_bands

    @property
    def is_banded(self) -> bool:
        """Whether its buckets are bands, of which there are few."""
        return self.kind in (DimensionKind.DATE, DimensionKind.NUMBER)

    @property
    def is_list(self) -> bool:
        """Whether a record may have several values."""
        return self.kind in (DimensionKind.LIST, DimensionKind.ANY)


def _recency(as_of: datetime) -> tuple[Band, ...]:
    days = (("last 7 days", 7), ("8 to 30 days ago", 30), ("31 to 90 days ago", 90), ("91 to 180 days ago", 180))
    ended = ((label, as_of - timedelta(days=number)) for label, number in (*days, ("181 to 365 days ago", 365)))
    future = Band("in the future", as_of + timedelta(seconds=1))
    return (future, *(Band(label, start) for label, start in ended), Band("over 365 days ago", None))


def _ages(as_of: datetime) -> tuple[Band, ...]:
    """By birthday: whoever is 18 today was born on this day 18 years ago at the latest."""
    tomorrow = (as_of + timedelta(days=1)).replace(hour=0, minute=0, second=0)
    bands = [Band(None, tomorrow)]
    for label, years in (("under 18", 18), ("18-24", 25), ("25-34", 35), ("35-44", 45), ("45-54", 55), ("55-64", 65)):
        bands.append(Band(label, _years_before(as_of, years)))
    return (*bands, Band("65+", None))


def _years_before(as_of: datetime, years: int) -> datetime:
    """The start of the first day on which those born are not `years` old yet at `moment`."""
    if (as_of.month, as_of.day) == (2, 29):
        return datetime(as_of.year - years, 3, 1, tzinfo=UTC)
    return datetime(as_of.year - years, as_of.month, as_of.day, tzinfo=UTC) + timedelta(days=1)


def _scores(_: datetime) -> tuple[Band, ...]:
    middle = tuple(Band(f"{start} to under {start + 20}", start) for start in (60, 40, 20))
    return (Band("80 and over", 80), *middle, Band("under 20", None))


DIMENSIONS = {
    dimension.name: dimension
    for dimension in (
        Dimension("country", DimensionKind.TEXT, ("data.country", "data.address.country")),
        Dimension("region", DimensionKind.TEXT, ("data.region", "data.address.region")),
        Dimension("city", DimensionKind.TEXT, ("data.city", "data.address.city")),
        Dimension("language", DimensionKind.TEXT, ("data.language",)),
        Dimension("ageBand", DimensionKind.DATE, ("data.birthday",), _ages),
        Dimension("gender", DimensionKind.TEXT, ("data.sex", "data.gender")),
        Dimension("company", DimensionKind.TEXT, ("data.company", "data.company.name")),
        Dimension("job", DimensionKind.TEXT, ("data.jobTitle",)),
        Dimension("lifecycleStage", DimensionKind.TEXT, ("data.leadStage",)),
        Dimension("lastOpened", DimensionKind.DATE, ("data.lastEmailOpenedAt",), _recency),
        Dimension("lastClicked", DimensionKind.DATE, ("data.lastEmailClickedAt",), _recency),
        Dimension("created", DimensionKind.DATE, ("data.createdAt", "createdate"), _recency),
        Dimension("score", DimensionKind.NUMBER, ("data.score", "data.leadScore"), _scores),
        Dimension("source", DimensionKind.TEXT, ("data.source",)),
        Dimension("tags", DimensionKind.LIST, ("data.tags",)),
    )
}
"""The named dimensions, in the order of an answer that names none."""


def parse_dimensions(requested: Sequence[str]) -> tuple[Dimension, ...]:
    """The dimensions of a request, each once, all named ones where it names none.

    Whatever is no name is a path. Raises InvalidArgument at `dimensions[i]`.
    """
    if len(requested) > MAX_DIMENSIONS:
        raise InvalidArgument.at("dimensions", f"names {len(requested)} dimensions, more than {MAX_DIMENSIONS}")
    if not requested:
        return tuple(DIMENSIONS.values())
    read = (_dimension(text, f"dimensions[{index}]") for index, text in enumerate(requested))
    return tuple({dimension.name: dimension for dimension in read}.values())


def _dimension(text: str, field_path: str) -> Dimension:
    if text in DIMENSIONS:
        return DIMENSIONS[text]
    if any(step.isdecimal() for step in text.split(".")):
        raise InvalidArgument.at(field_path, "names a place in a list; name the list")
    try:
        path = record_path(text, field_path)
    except InvalidFilter as error:
        raise InvalidArgument("invalid request", violations=error.violations) from None
    if is_personal(path):
        raise InvalidArgument.at(field_path, "is personal data, which is not broken down")
    return Dimension(path, DimensionKind.ANY, (path,))
