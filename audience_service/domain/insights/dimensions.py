"""The dimensions that an audience's insights break it down by: a row each. A newcomer is one more row."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from audience_service.domain.errors import InvalidArgument, InvalidFilter
from audience_service.domain.filters.fields import record_path
from audience_service.domain.profile import is_personal

MAX_DIMENSIONS = 20


class Kind(StrEnum):
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
    kind: Kind
    paths: tuple[str, ...]
    bands: Bands = _no_bands

    @property
    def is_banded(self) -> bool:
        """Whether its buckets are bands, of which there are few."""
        return self.kind in (Kind.DATE, Kind.NUMBER)

    @property
    def is_list(self) -> bool:
        """Whether a record may have several values."""
        return self.kind in (Kind.LIST, Kind.ANY)


def _recency(moment: datetime) -> tuple[Band, ...]:
    days = (("last 7 days", 7), ("8 to 30 days ago", 30), ("31 to 90 days ago", 90), ("91 to 180 days ago", 180))
    ended = ((label, moment - timedelta(days=number)) for label, number in (*days, ("181 to 365 days ago", 365)))
    future = Band("in the future", moment + timedelta(seconds=1))
    return (future, *(Band(label, start) for label, start in ended), Band("over 365 days ago", None))


def _ages(moment: datetime) -> tuple[Band, ...]:
    """By birthday: whoever is 18 today was born on this day 18 years ago at the latest."""
    tomorrow = (moment + timedelta(days=1)).replace(hour=0, minute=0, second=0)
    bands = [Band(None, tomorrow)]
    for label, years in (("under 18", 18), ("18-24", 25), ("25-34", 35), ("35-44", 45), ("45-54", 55), ("55-64", 65)):
        bands.append(Band(label, _years_before(moment, years)))
    return (*bands, Band("65+", None))


def _years_before(moment: datetime, years: int) -> datetime:
    """The start of the first day on which those born are not `years` old yet at `moment`."""
    if (moment.month, moment.day) == (2, 29):
        return datetime(moment.year - years, 3, 1, tzinfo=UTC)
    return datetime(moment.year - years, moment.month, moment.day, tzinfo=UTC) + timedelta(days=1)


def _scores(_: datetime) -> tuple[Band, ...]:
    middle = tuple(Band(f"{start} to under {start + 20}", start) for start in (60, 40, 20))
    return (Band("80 and over", 80), *middle, Band("under 20", None))


DIMENSIONS = {
    dimension.name: dimension
    for dimension in (
        Dimension("country", Kind.TEXT, ("data.country", "data.address.country")),
        Dimension("region", Kind.TEXT, ("data.region", "data.address.region")),
        Dimension("city", Kind.TEXT, ("data.city", "data.address.city")),
        Dimension("language", Kind.TEXT, ("data.language",)),
        Dimension("ageBand", Kind.DATE, ("data.birthday",), _ages),
        Dimension("gender", Kind.TEXT, ("data.sex", "data.gender")),
        Dimension("company", Kind.TEXT, ("data.company", "data.company.name")),
        Dimension("job", Kind.TEXT, ("data.jobTitle",)),
        Dimension("lifecycleStage", Kind.TEXT, ("data.leadStage",)),
        Dimension("lastOpened", Kind.DATE, ("data.lastEmailOpenedAt",), _recency),
        Dimension("lastClicked", Kind.DATE, ("data.lastEmailClickedAt",), _recency),
        Dimension("created", Kind.DATE, ("data.createdAt", "createdate"), _recency),
        Dimension("score", Kind.NUMBER, ("data.score", "data.leadScore"), _scores),
        Dimension("source", Kind.TEXT, ("data.source",)),
        Dimension("tags", Kind.LIST, ("data.tags",)),
    )
}
"""The named dimensions, in the order of an answer that names none."""


def read_dimensions(wanted: Sequence[str]) -> tuple[Dimension, ...]:
    """The dimensions of a request, each once, all named ones where it names none.

    Whatever is no name is a path. Raises InvalidArgument at `dimensions[i]`.
    """
    if len(wanted) > MAX_DIMENSIONS:
        raise InvalidArgument.at("dimensions", f"names {len(wanted)} dimensions, more than {MAX_DIMENSIONS}")
    if not wanted:
        return tuple(DIMENSIONS.values())
    read = (_dimension(text, f"dimensions[{index}]") for index, text in enumerate(wanted))
    return tuple({dimension.name: dimension for dimension in read}.values())


def _dimension(text: str, place: str) -> Dimension:
    if text in DIMENSIONS:
        return DIMENSIONS[text]
    if any(step.isdecimal() for step in text.split(".")):
        raise InvalidArgument.at(place, "names a place in a list; name the list")
    try:
        path = record_path(text, place)
    except InvalidFilter as error:
        raise InvalidArgument("invalid request", violations=error.violations) from None
    if is_personal(path):
        raise InvalidArgument.at(place, "is personal data, which is not broken down")
    return Dimension(path, Kind.ANY, (path,))
