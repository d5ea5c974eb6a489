"""The model of a platform's rules."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from audience_service.domain.identifiers.region_context import RegionContext

Normalise = Callable[[Any, RegionContext], str | None]
"""Returns a record's value in the form that a platform requires; None if it is invalid.

It accepts any value and never raises.
"""


@dataclass(frozen=True, slots=True)
class FieldRule:
    """How an export sends a field: the platform's column, the normalisation, and whether SHA-256 hashes it.

    `max_values` is how many values of one person the platform accepts. Each has a column of the same name.
    `is_default` is whether exports that name no fields have this one.
    """

    field: str
    column: str
    normalise: Normalise
    hashed: bool = True
    max_bytes: int = 64
    """The most bytes of a value as it is sent. A hashed value is 64 hexadecimal digits."""
    max_values: int = 1
    is_default: bool = True


@dataclass(frozen=True, slots=True)
class Option:
    """An option, for rules on which a platform's own pages conflict.

    A choice has the changed attributes of each field's rule. The first choice is the default.
    """

    name: str
    choices: Mapping[str, Mapping[str, Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class PlatformRules:
    """One version of a platform's rules.

    `keys` are the sets of fields that identify a person; a row without a complete key is not sent.
    `all_or_none` are fields that the platform accepts only together.
    `separate` are sets of identifiers that the platform accepts only on lists without other identifiers.
    `min_list_size` is the fewest people that the platform accepts; 0 if it is unknown.
    """

    version: str
    fields: tuple[FieldRule, ...]
    keys: tuple[frozenset[str], ...]
    batch_size: int
    min_list_size: int
    all_or_none: frozenset[str] = frozenset()
    separate: tuple[frozenset[str], ...] = ()
    options: tuple[Option, ...] = ()
    chosen: Mapping[str, str] = field(default_factory=dict)

    def with_options(self, chosen: Mapping[str, str]) -> "PlatformRules":
        """The rules with the chosen options, and defaults for the others. All choices must exist."""
        rules = {rule.field: rule for rule in self.fields}
        all_chosen = {option.name: chosen.get(option.name) or next(iter(option.choices)) for option in self.options}
        for option in self.options:
            for name, changes in option.choices[all_chosen[option.name]].items():
                rules[name] = replace(rules[name], **changes)
        return replace(self, fields=tuple(rules.values()), chosen=all_chosen)

    def restricted_to(self, fields: tuple[str, ...]) -> "PlatformRules":
        """The rules of these fields only, in the order of `fields`."""
        rules = {rule.field: rule for rule in self.fields}
        return replace(self, fields=tuple(rules[name] for name in fields))
