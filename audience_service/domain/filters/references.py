"""Which audiences a stored filter refers to."""

from collections.abc import Mapping
from typing import Any

REFERENCE = "$inAudience"


def audience_references(where: Any) -> frozenset[str]:
    """The audience ids that stand as operands of `$inAudience`, at any depth.

    A plain walk that asks nothing of the filter: what the platform saved need not be in the filter language. Something
    that only looks like a reference (a value to compare with, say) counts as one.
    """
    found: set[str] = set()
    pending = [where]
    while pending:
        value = pending.pop()
        if isinstance(value, Mapping):
            operand = value.get(REFERENCE)
            if isinstance(operand, str):
                found.add(operand)
            pending.extend(value.values())
        elif isinstance(value, list | tuple):
            pending.extend(value)
    return frozenset(found)
