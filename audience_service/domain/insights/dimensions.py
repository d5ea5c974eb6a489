"""The dimensions of insights. To add one, add a row to DIMENSIONS."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from audience_service.domain.core.errors import InvalidArgument, InvalidFilter
from audience_service.domain.filters.fields import plain_path
from audience_service.domain.schema.sample_masking import is_personal

MAX_DIMENSIONS = 20


class DimensionKind(StrEnum):
    """How values become buckets: one per value for TEXT, LIST and ANY, one per band for DATE and NUMBER.

    LIST is text with possibly more than one value per record. ANY is a path whose values have any type. Numbers have
    quantiles.
    """

    TEXT = "text"
    DATE = "date"
    NUMBER = "number"
    LIST = "list"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Band:
    """A bucket of dates or numbers from `start` to below the start of the next higher band.

    The band without a `start` takes all values below the other bands. In a band without a `label` values are invalid.
    """

    label: str | None
    start: Any


Bands = Callable[[datetime], tuple[Band, ...]]
"""Maps a time (without fractions of a second) to the bands as of that time, the highest first.

The last band has no start.
"""


def _no_bands(_: datetime) -> tuple[Band, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class Dimension:
    """One dimension. A record's value is the first non-empty one at `paths`, in order."""

    name: str
    kind: DimensionKind
    paths: tuple[str, ...]
    bands: Bands = _no_bands

    @property
    def is_banded(self) -> bool:
        """Whether its buckets are bands. Bands are few."""
        return self.kind in (DimensionKind.DATE, DimensionKind.NUMBER)

    @property
    def is_list(self) -> bool:
        """Whether a record may have more than one value."""
        return self.kind in (DimensionKind.LIST, DimensionKind.ANY)


def _recency(as_of: datetime) -> tuple[Band, ...]:
    days = (("last 7 days", 7), ("8 to 30 days ago", 30), ("31 to 90 days ago", 90), ("91 to 180 days ago", 180))
    past = ((label, as_of - timedelta(days=number)) for label, number in (*days, ("181 to 365 days ago", 365)))
    future = Band("in the future", as_of + timedelta(seconds=1))
    return (future, *(Band(label, start) for label, start in past), Band("over 365 days ago", None))


def _ages(as_of: datetime) -> tuple[Band, ...]:
    """Age bands by birthday. A person who is 18 today was born on this day 18 years ago or earlier."""
    tomorrow = (as_of + timedelta(days=1)).replace(hour=0, minute=0, second=0)
    bands = [Band(None, tomorrow)]
    for label, years in (("under 18", 18), ("18-24", 25), ("25-34", 35), ("35-44", 45), ("45-54", 55), ("55-64", 65)):
        bands.append(Band(label, _years_before(as_of, years)))
    return (*bands, Band("65+", None))


def _years_before(as_of: datetime, years: int) -> datetime:
    """The start of the earliest date of birth of people who are younger than `years` at `as_of`."""
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
"""The named dimensions, in the order of a response to a request that names none."""


def parse_dimensions(requested: Sequence[str]) -> tuple[Dimension, ...]:
    """The dimensions of a request without duplicates; all named ones if the request has none.

    Any other text is a path in the record. Raises InvalidArgument at `dimensions` or `dimensions[i]`.
    """
    if len(requested) > MAX_DIMENSIONS:
        raise InvalidArgument.at("dimensions", f"names {len(requested)} dimensions; name at most {MAX_DIMENSIONS}")
    if not requested:
        return tuple(DIMENSIONS.values())
    parsed = (_dimension(text, f"dimensions[{index}]") for index, text in enumerate(requested))
    return tuple({dimension.name: dimension for dimension in parsed}.values())


def _dimension(text: str, field_path: str) -> Dimension:
    if text in DIMENSIONS:
        return DIMENSIONS[text]
    if any(step.isdecimal() for step in text.split(".")):
        raise InvalidArgument.at(field_path, "has an index into a list; name the list instead")
    try:
        path = plain_path(text, field_path)
    except InvalidFilter as error:
        raise InvalidArgument("invalid request", violations=error.violations) from None
    if is_personal(path):
        raise InvalidArgument.at(field_path, "is personal data, which insights do not disclose; name another dimension")
    return Dimension(path, DimensionKind.ANY, (path,))
