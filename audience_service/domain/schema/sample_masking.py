"""The sample profile: one member's payload with personal data masked, as an example of a filter's members.

Each field follows one of three rules. Fields known to be harmless are shown. Fields known to be personal are masked,
and keep their shape. All other values are hidden, since custom properties may contain any data.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

HIDDEN = "***"

VISIBLE_FIELDS = frozenset(
    (
        "title", "company", "jobTitle", "country", "region", "city", "language", "timezone", "sex", "tags", "groups",
        "source", "score", "leadScore", "status", "leadStage", "createdAt", "lastEmailOpenedAt", "lastEmailClickedAt",
        "subscriptions",
    )
)  # fmt: skip
"""Fields, at any depth of `data`, whose single values are shown. The rules apply again to the fields of objects."""

_SINGLE_TYPES = (str, int, float, datetime)

NESTED_FIELDS = frozenset(("address",))
"""Objects, or lists of objects, to whose fields the rules apply."""


def mask_profile(data: Mapping[str, Any]) -> dict[str, Any]:
    """The payload with every field shown, masked or hidden by its rule."""
    return {name: _mask_value(name, value) for name, value in data.items()}


def _mask_value(name: str, value: Any) -> Any:
    if isinstance(value, _SINGLE_TYPES):  # the most frequent case
        return value if name in VISIBLE_FIELDS else MASKS.get(name, _hide)(value)
    if isinstance(value, list):
        return (
            [_mask_value(name, item) for item in value] if name in VISIBLE_FIELDS or name in NESTED_FIELDS else HIDDEN
        )
    if isinstance(value, Mapping):
        return mask_profile(value) if name in VISIBLE_FIELDS or name in NESTED_FIELDS else HIDDEN
    if value is None or name in VISIBLE_FIELDS:
        return value
    return MASKS.get(name, _hide)(value)


def _hide(_: Any) -> str:
    return HIDDEN


def _initial(value: Any) -> str:
    return f"{value[0]}{HIDDEN}" if isinstance(value, str) and value else HIDDEN


def _email(value: Any) -> str:
    local, at, domain = value.rpartition("@") if isinstance(value, str) else ("", "", "")
    return f"{local[:1]}{HIDDEN}{at}{domain}" if at else HIDDEN


def _last_two(value: Any) -> str:
    return f"{HIDDEN}{value[-2:]}" if isinstance(value, str) and len(value) > 6 else HIDDEN


def _year(value: Any) -> str:
    year = str(value)[:4]
    return f"{year}-**-**" if year.isdecimal() and len(year) == 4 else HIDDEN


MASKS: dict[str, Callable[[Any], str]] = {
    "firstName": _initial,
    "lastName": _initial,
    "email": _email,
    "phone": _last_two,
    "birthday": _year,
}
"""Personal fields whose shape shows the quality of the data."""

_PERSONAL_PATHS = frozenset(("pk", "sk", "name", "data.name"))
_PERSONAL = re.compile(r"e-?mail|phone|mobile|street|birth|(first|last|middle|full|sur|maiden|user)_?-?name", re.I)


def is_personal(path: str) -> bool:
    """Whether a path in the record, or a parent of it, is named like data that identifies or reaches a person.

    Part of a name is enough: `workEmail` is personal. A field known to be harmless (`lastEmailOpenedAt`) is not.
    """
    steps = path.split(".")
    return path in _PERSONAL_PATHS or any(step not in VISIBLE_FIELDS and _PERSONAL.search(step) for step in steps)
