"""Conditions on the elements of an array themselves ($elemMatch on scalars).

MongoDB takes one document without $or here. If conditions have alternatives, such as the spellings of a date, each
combination of them becomes one document, and one of the documents must hold.
"""

import itertools
from collections.abc import Callable, Sequence
from datetime import datetime

from audience_service.domain.filters.ast import And, Condition, ElementIs, ElementMatch, Node, Not
from audience_service.domain.filters.filter import Document

ToMatch = Callable[[Node], Document]

_TIGHTEN = {"$gt": max, "$gte": max, "$lt": min, "$lte": min}


def element_documents(conditions: Sequence[Node], to_match: ToMatch) -> list[Document]:
    """The documents of which an element must meet one; `to_match` compiles the filters of elements in the element.

    Raises ValueError if MongoDB cannot express the conditions.
    """
    patterns = [c for c in conditions if isinstance(c, Condition) and "$regex" in c.operator.emit(c.operand)[-1]]
    if len(patterns) > 1 and any(pattern.operator.name not in _TIGHTEN for pattern in patterns):
        raise ValueError(
            'has two patterns, or a pattern and an ISO date, on the same elements; write the date as {"$date": ...}'
        )
    combinations = itertools.product(*(_alternatives(condition, to_match) for condition in conditions))
    merged = (_merge(combination) for combination in combinations)
    return [document for document in merged if document is not None]


def _alternatives(node: Node, to_match: ToMatch) -> list[Document]:
    match node:
        case Condition(_, operator, operand):
            return operator.emit(operand)
        case ElementIs(_, conditions):
            return [{"$elemMatch": document} for document in element_documents(conditions, to_match)]
        case ElementMatch(_, query):
            return [{"$elemMatch": to_match(query)}]
        case Not(child):
            inner = child.children if isinstance(child, And) else (child,)
            alternatives = [_alternatives(condition, to_match) for condition in inner]
            if any(len(documents) > 1 for documents in alternatives):
                raise ValueError('negates an ISO date; reverse the comparison, or write the date as {"$date": ...}')
            document = _merge([documents[0] for documents in alternatives])
            if document is None:
                raise ValueError("negates conditions that contradict each other; remove one of them")
            return [{"$not": document}]
    raise ValueError("has an operator that cannot apply to the elements themselves; use $elemMatch on objects")


def _merge(documents: Sequence[Document]) -> Document | None:
    """One document with the conditions of all; None if no element can meet them all."""
    merged: Document = {}
    for document in documents:
        for name, value in document.items():
            if name not in merged:
                merged[name] = value
            elif name == "$regex":
                merged[name] = f"(?={merged[name]}){value}"  # both are anchored at the start
            elif name not in _TIGHTEN:
                raise ValueError(f'has {name} twice, one of them for an ISO date; write the date as {{"$date": ...}}')
            elif any(isinstance(value, kind) and isinstance(merged[name], kind) for kind in (str, datetime)):
                merged[name] = _TIGHTEN[name](merged[name], value)
            else:
                return None  # the bounds are of two types: no element meets both
    return merged
