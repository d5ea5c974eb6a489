"""The audiences that a stored filter refers to."""

from collections.abc import Mapping
from typing import Any

REFERENCE = "$inAudience"


def audience_references(where: Any) -> frozenset[str]:
    """The audience ids that are operands of `$inAudience`, or in lists there, at any depth.

    The filter need not be valid, since the platform may have saved other filters. A value that only resembles a
    reference counts as one.
    """
    found: set[str] = set()
    pending = [where]
    while pending:
        value = pending.pop()
        if isinstance(value, Mapping):
            operand = value.get(REFERENCE)
            found.update(
                item for item in (operand if isinstance(operand, list) else [operand]) if isinstance(item, str)
            )
            pending.extend(value.values())
        elif isinstance(value, list | tuple):
            pending.extend(value)
    return frozenset(found)
