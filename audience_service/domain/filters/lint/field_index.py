"""The fields that an org's records are known to have, and the known field most similar to an unknown one."""

import copy
import difflib
from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property

from audience_service.domain.filters.field_profile import FieldProfile
from audience_service.domain.filters.fields import SYSTEM_FIELDS, display_path, join_steps
from audience_service.domain.filters.lint.warning import FilterWarning

_MAX_DOTTED_STEPS = 8
_ALIASES = {"id": "pk", "_id": "pk", **{name: f"${name}" for name in ("and", "or", "nor")}}
"""Names that other tools have, and the ones that are meant here."""
_LENGTHS = (["length"], ["size"], ["count"])
"""What programs call the number of elements of a list. It is no field, unless elements are known to have it."""
_MAX_SUGGESTIONS = 20
"""How many suggestions an index computes. Each compares a name with all known ones, which takes time."""


class FieldProfiles(dict[str, FieldProfile]):
    """Profiles of fields by path, with which many filters are compared: their index is built once."""

    @cached_property
    def index(self) -> "FieldIndex":
        """The index of these fields, for `FieldIndex.of`."""
        return FieldIndex(self)

    @cached_property
    def warnings(self) -> dict[Hashable, Sequence[FilterWarning]]:
        """The warnings about filters that were compared with these fields."""
        return {}


class FieldIndex:
    """The known fields, by their paths without list indexes. An index serves one filter."""

    @classmethod
    def of(cls, fields: Mapping[str, FieldProfile]) -> "FieldIndex":
        """The index of some fields, for one filter."""
        return copy.copy(fields.index) if isinstance(fields, FieldProfiles) else cls(fields)

    def __init__(self, fields: Mapping[str, FieldProfile]) -> None:
        self._profiles = {_without_positions(path): profile for path, profile in fields.items()}
        self._by_name = {_name(path): display_path(path) for path in self._profiles}
        parents = (path.split(".")[:length] for path in self._profiles for length in range(1, path.count(".") + 1))
        self._parents = {".".join(steps) for steps in parents}
        self._has_dotted = any("[" in path for path in self._profiles)
        self._suggestion_count = 0

    def profile(self, path: str) -> FieldProfile | None:
        """The profile of a field, None if it has none."""
        return self._profiles.get(_without_positions(path))

    def has(self, path: str) -> bool:
        """Whether records have the field, or may have it: fields inside an object may lack profiles."""
        path = _without_positions(path)
        if path.partition(".")[0] in SYSTEM_FIELDS or path in self._profiles or path in self._parents:
            return True
        steps = path.split(".")
        for length in range(len(steps) - 1, 0, -1):
            parent = ".".join(steps[:length])
            if parent in self._parents:
                return False
            if profile := self._profiles.get(parent):
                if steps[length:] in _LENGTHS and "array" in profile.types:
                    return False
                return bool({"object", "array"} & set(profile.types))
        return False

    def keys(self, path: str) -> set[str]:
        """The known names of the fields in an object, or in the objects of a list."""
        prefix = f"{_without_positions(path)}."
        known = self._profiles.keys() | self._parents
        return {name.removeprefix(prefix).partition(".")[0] for name in known if name.startswith(prefix)}

    def has_single_values(self, path: str) -> bool:
        """Whether sampled records have the field, and none has a list there or around it."""
        return self.profile(path) is not None and not self.has_lists(path)

    def has_lists(self, path: str) -> bool:
        """Whether a sampled record has a list in the field, or around it."""
        steps = _without_positions(path).split(".")
        parents = (self._profiles.get(".".join(steps[:length])) for length in range(1, len(steps) + 1))
        return any(found and "array" in found.types for found in parents)

    def in_payload(self, name: str) -> bool:
        """Whether the payload has a field with the name of a system field."""
        path = f"data.{name}"
        return path in self._profiles or path in self._parents

    def dotted(self, path: str) -> str:
        """The field that reads like the path, but has a name with dots in it; empty if there is none."""
        head, *steps = path.split(".")
        spans = ((start, end) for start in range(len(steps)) for end in range(start + 2, len(steps) + 1))
        for start, end in spans if self._has_dotted and len(steps) <= _MAX_DOTTED_STEPS else ():
            found = join_steps((head, *steps[:start], ".".join(steps[start:end]), *steps[end:]))
            if found in self._profiles:
                return display_path(found)
        return ""

    def similar(self, path: str) -> str:
        """The known field with the most similar name, as callers write it; empty if none is similar."""
        self._suggestion_count += 1
        if self._suggestion_count > _MAX_SUGGESTIONS:
            return ""
        if alias := _ALIASES.get(_name(path)):
            return alias
        similar = difflib.get_close_matches(_name(_without_positions(path)), self._by_name, n=1)
        return self._by_name[similar[0]] if similar else ""


def _without_positions(path: str) -> str:
    return ".".join(step for step in path.split(".") if not step.isdecimal())


def _name(path: str) -> str:
    """The form of a path in which names are compared: without `data.`, and without case."""
    return path.removeprefix("data.").casefold()
