"""The fields that a caller asks for along with members, and their values in a record."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from audience_service.domain.core.errors import InvalidArgument, InvalidFilter
from audience_service.domain.filters.fields import record_path

MAX_FIELDS = 50

MISSING = object()
"""What `dig` answers with where there is nothing."""


@dataclass(frozen=True, slots=True)
class Projection:
    """Fields as asked for, and the steps that lead to each in the record."""

    paths: Mapping[str, tuple[str, ...]]

    @classmethod
    def parse(cls, fields: Sequence[str], field_path: str = "fields") -> "Projection":
        """The fields that a request has at `place`. Raises InvalidArgument there, or at `place[i]`."""
        if len(fields) > MAX_FIELDS:
            raise InvalidArgument.at(field_path, f"names {len(fields)} fields, more than {MAX_FIELDS}")
        return cls({field: _steps(field, f"{field_path}[{index}]") for index, field in enumerate(fields)})

    @property
    def record_paths(self) -> list[str]:
        """Where the fields are in the record, as the database names places."""
        return [".".join(steps) for steps in self.paths.values()]

    def values(self, record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """What the record has of them, keyed as asked; what it does not have is left out."""
        for field, steps in self.paths.items():
            value = get_path(record, steps)
            if value is not MISSING:
                yield field, value


def _steps(field: str, field_path: str) -> tuple[str, ...]:
    if any(step.isdecimal() for step in field.split(".")):
        raise InvalidArgument.at(field_path, "names a place in a list; name the list")
    try:
        return tuple(record_path(field, field_path).split("."))
    except InvalidFilter as error:
        raise InvalidArgument("invalid request", violations=error.violations) from None


def get_path(value: Any, steps: Sequence[str]) -> Any:
    """The value at the end of the steps; through a list, the list of what its elements have there.

    A number leads to that place in a list, if the list is so long.
    """
    for position, step in enumerate(steps):
        if isinstance(value, dict):
            value = value.get(step, MISSING)
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        elif isinstance(value, list):
            found = [get_path(item, steps[position:]) for item in value]
            return [item for item in found if item is not MISSING]
        else:
            return MISSING
    return value
