"""The fields that an org's records are known to have, and the known field most similar to an unknown one."""

import difflib
import json
from collections.abc import Mapping

from audience_service.domain.filters.field_profile import FieldProfile
from audience_service.domain.filters.fields import SYSTEM_FIELDS, display_path

_MAX_SUGGESTIONS = 20
"""How many suggestions an index computes. Each compares a name with all known ones, which takes time."""


class FieldIndex:
    """The known fields, by their paths without list indexes."""

    def __init__(self, fields: Mapping[str, FieldProfile]) -> None:
        self._profiles = {_without_positions(path): profile for path, profile in fields.items()}
        self._by_name = {_name(path): display_path(path) for path in self._profiles}
        parents = (path.split(".")[:length] for path in self._profiles for length in range(1, path.count(".") + 1))
        self._parents = {".".join(steps) for steps in parents}
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
                return bool({"object", "array"} & set(profile.types))
        return False

    def in_payload(self, name: str) -> bool:
        """Whether the payload has a field with the name of a system field."""
        path = f"data.{name}"
        return path in self._profiles or path in self._parents

    def dotted(self, path: str) -> str:
        """The payload's field whose name contains dots and reads like the path; empty if there is none."""
        name = path.removeprefix("data.")
        return display_path(found) if "." in name and (found := f"data[{json.dumps(name)}]") in self._profiles else ""

    def similar(self, path: str) -> str:
        """The known field with the most similar name, as callers write it; empty if none is similar."""
        self._suggestion_count += 1
        if self._suggestion_count > _MAX_SUGGESTIONS:
            return ""
        similar = difflib.get_close_matches(_name(_without_positions(path)), self._by_name, n=1)
        return self._by_name[similar[0]] if similar else ""


def _without_positions(path: str) -> str:
    return ".".join(step for step in path.split(".") if not step.isdecimal())


def _name(path: str) -> str:
    """The form of a path in which names are compared: without `data.`, and without case."""
    return path.removeprefix("data.").casefold()
