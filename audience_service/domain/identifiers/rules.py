"""What a platform's rules consist of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from audience_service.domain.identifiers.region_context import RegionContext

Normalise = Callable[[Any, RegionContext], str | None]
"""A record's value in a platform's one form; None for what is not valid. Raises for no value, however odd."""


@dataclass(frozen=True, slots=True)
class FieldRule:
    """How one field is sent: under which name of the platform's, in which form, hashed by SHA-256 or as it stands."""

    field: str
    column: str
    normalise: Normalise
    hashed: bool = True
    max_bytes: int = 64
    """Bytes of the longest value as it goes out: a digest in hexadecimal digits, where it is hashed."""


@dataclass(frozen=True, slots=True)
class Option:
    """Where a platform's own pages conflict. A choice names, by field, what differs; the first one is the default."""

    name: str
    choices: Mapping[str, Mapping[str, Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class PlatformRules:
    """One version of a platform's rules.

    `keys` are the fields, or sets of them, each of which tells who a person is: a row without any is not sent. `whole`
    are fields that the platform takes all together or not at all. `minimum` is 0 where none is known.
    """

    version: str
    fields: tuple[FieldRule, ...]
    keys: tuple[frozenset[str], ...]
    batch_size: int
    minimum: int
    all_or_none: frozenset[str] = frozenset()
    options: tuple[Option, ...] = ()
    chosen: Mapping[str, str] = field(default_factory=dict)

    @property
    def row_bytes(self) -> int:
        """How long a row is at most in a message, with the few bytes that stand before each value."""
        return 6 + sum(rule.max_bytes + 3 for rule in self.fields)

    def with_options(self, chosen: Mapping[str, str]) -> "PlatformRules":
        """The rules that choices, which must be theirs, make of these; what is not chosen is as by default."""
        rules = {rule.field: rule for rule in self.fields}
        all_chosen = {option.name: chosen.get(option.name) or next(iter(option.choices)) for option in self.options}
        for option in self.options:
            for name, changes in option.choices[all_chosen[option.name]].items():
                rules[name] = replace(rules[name], **changes)
        return replace(self, fields=tuple(rules.values()), chosen=all_chosen)

    def restricted_to(self, fields: tuple[str, ...]) -> "PlatformRules":
        """The rules of these fields alone, in their order."""
        rules = {rule.field: rule for rule in self.fields}
        return replace(self, fields=tuple(rules[name] for name in fields))
