"""The fields that a caller requests with members, and their values in a record."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from audience_service.domain.core.errors import InvalidArgument, InvalidFilter
from audience_service.domain.filters.fields import record_steps

MAX_FIELDS = 50

MISSING = object()
"""The result of get_path if the record has no value at the path."""


@dataclass(frozen=True, slots=True)
class Projection:
    """Fields by their names in the request, and the steps of each one's path in the record."""

    paths: Mapping[str, tuple[str, ...]]

    @classmethod
    def parse(cls, fields: Sequence[str], field_path: str = "fields") -> "Projection":
        """The projection of a request's field list. Raises InvalidArgument at `field_path` or `field_path[i]`."""
        if len(fields) > MAX_FIELDS:
            raise InvalidArgument.at(field_path, f"names {len(fields)} fields; the limit is {MAX_FIELDS}")
        return cls({field: _steps(field, f"{field_path}[{index}]") for index, field in enumerate(fields)})

    @property
    def record_paths(self) -> list[str]:
        """The paths of the fields in the record, in the database's dotted form.

        For a key with dots or dollars it is the path of the object that contains the key: projections cannot name it.
        """
        return [".".join(itertools.takewhile(_is_plain, steps)) for steps in self.paths.values()]

    def is_exact(self, field: str) -> bool:
        """Whether the field's path in `record_paths` selects the field alone, not the object that contains it."""
        return all(map(_is_plain, self.paths[field]))

    def values(self, record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """The record's values by the requested names. Fields that the record lacks are left out."""
        for field, steps in self.paths.items():
            value = get_path(record, steps)
            if value is not MISSING:
                yield field, value


def _is_plain(step: str) -> bool:
    return "." not in step and not step.startswith("$")


def _steps(field: str, field_path: str) -> tuple[str, ...]:
    try:
        steps = record_steps(field, field_path)
    except InvalidFilter as error:
        raise InvalidArgument("invalid request", violations=error.violations) from None
    if any(step.isdecimal() for step in steps):
        raise InvalidArgument.at(field_path, "contains a list index; name the list instead")
    return steps


def get_path(value: Any, steps: Sequence[str]) -> Any:
    """The value at a path, MISSING if there is none. A path through a list gives the list of its elements' values.

    A number among the steps is a list index, if the list is long enough.
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
