"""Conditions on an array's element itself ($elemMatch on scalars), where MongoDB has room for one document only.

There is no $or in it, so where a condition has alternatives (the spellings of a date) every combination of them becomes
a document of its own, of which one must hold.
"""

import itertools
from collections.abc import Sequence

from audience_service.domain.filters.ast import And, Condition, Node, Not
from audience_service.domain.filters.filter import Document

_TIGHTEN = {"$gt": max, "$gte": max, "$lt": min, "$lte": min}


def element_documents(conditions: Sequence[Node]) -> list[Document]:
    """The documents of which an element must meet one. Raises ValueError where there is no way to say it."""
    patterns = [c for c in conditions if isinstance(c, Condition) and "$regex" in c.operator.emit(c.operand)[-1]]
    if len(patterns) > 1 and any(pattern.operator.name == "$regex" for pattern in patterns):
        raise ValueError("holds $regex beside an ISO date")
    combinations = itertools.product(*(_alternatives(condition) for condition in conditions))
    merged = (_merge(combination) for combination in combinations)
    return [document for document in merged if document is not None]


def _alternatives(node: Node) -> list[Document]:
    match node:
        case Condition(_, operator, operand):
            return operator.emit(operand)
        case Not(child):
            inner = child.children if isinstance(child, And) else (child,)
            alternatives = [_alternatives(condition) for condition in inner]
            if any(len(documents) > 1 for documents in alternatives):
                raise ValueError('negates an ISO date; turn the comparison round or use {"$date": ...}')
            document = _merge([documents[0] for documents in alternatives])
            if document is None:
                raise ValueError("negates conditions that contradict one another")
            return [{"$not": document}]
    raise ValueError("holds an operator that cannot be on the elements themselves")


def _merge(documents: Sequence[Document]) -> Document | None:
    """One document that says what all of them say; None where no element can meet them all."""
    merged: Document = {}
    for document in documents:
        for name, value in document.items():
            if name not in merged:
                merged[name] = value
            elif name == "$regex":
                merged[name] = f"(?={merged[name]}){value}"  # both are anchored at the start
            elif name not in _TIGHTEN:
                raise ValueError(f"holds {name} twice, for {name} itself and for an ISO date")
            elif isinstance(value, str) and isinstance(merged[name], str):
                merged[name] = _TIGHTEN[name](merged[name], value)
            else:
                return None  # a bound on text and a bound on another type: no element is both
    return merged
