"""The filters that the embedded store evaluates wrongly, as differential tests against a real engine show."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from bson import Decimal128, Regex
from pymongo.errors import PyMongoError

from audience_service.domain.core.errors import AudienceError, UnsupportedByStore
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.ast import And, Node, Nor, Not, Or, Related, Suppressed, joins
from audience_service.domain.filters.compiler import to_match
from audience_service.domain.filters.population import Population

LACKING_RPCS = ("GetInsights", "StreamSyncChanges", "AcknowledgeSyncBatch", "ResetSync")
"""The RPCs that the embedded store always refuses. It also refuses lookalikes, and some filters."""

_LOGICAL = frozenset(("$and", "$or", "$nor"))
_CLASSES = re.compile(r"\\(?![nrtf])[^\W_]|\[[:.=]|\(\?(?![:=!>])")
"""Escapes and groups that Python and PCRE may read differently. The service's own patterns for dates have none."""
_EQUALITIES = frozenset(("$eq", "$ne", "$in", "$nin", "$all"))


@contextmanager
def refuse_unsupported(population: Population) -> Iterator[None]:
    """Raise UnsupportedByStore, with the reason, if the embedded store evaluates the filter wrongly.

    Enter it around the read, since some filters fail only during evaluation.
    """
    if isinstance(population, CompiledFilter):
        for reason in _unsupported_in_filter(population):
            raise UnsupportedByStore(f"the embedded store {reason}; use a MongoDB for this filter")
    try:
        yield
    except (AudienceError, PyMongoError):
        raise
    except Exception as error:
        # mongomock-ng raises many kinds of errors for unsupported values such as decimals.
        raise UnsupportedByStore(f"the embedded store cannot evaluate this filter: {error}") from error


def remove_suppression(node: Node) -> Node:
    """Return the node with suppression conditions replaced: no address is suppressed."""
    match node:
        case Suppressed():
            return Nor((And(()),))
        case And(nodes) | Or(nodes) | Nor(nodes):
            return type(node)(tuple(remove_suppression(child) for child in nodes))
        case Not(child):
            return Not(remove_suppression(child))
        case _:
            return node


def _unsupported_in_filter(population: CompiledFilter) -> Iterator[str]:
    if population.has_expressions:
        yield "does not support the expressions of $expr"
    yield from _unsupported_in_match(population.match)
    if population.joins:
        if any(isinstance(join, Related | Suppressed) for join in joins(population.joins)):
            yield "does not join related records as MongoDB does"
        yield from _unsupported_in_match(to_match(population.joins, lambda _: {}))


def _unsupported_in_match(match: Mapping[str, Any]) -> Iterator[str]:
    """Yield the reasons why the store evaluates a match wrongly."""
    for key, value in match.items():
        if key in _LOGICAL:
            for item in value:
                yield from _unsupported_in_match(item)
        elif key == "$expr":
            yield "does not support the expressions of $expr, $anniversary and $bucket"
        else:
            yield from _unsupported_in_field(key, value)


def _unsupported_in_field(path: str, operators: Mapping[str, Any]) -> Iterator[str]:
    is_nested = "." in path.removeprefix("data.")
    if any(step.isdigit() for step in path.split(".")):
        yield "mishandles an index of a list in a path"
    for name, operand in operators.items():
        if name == "$size":
            yield "counts objects and strings in $size"
        if name == "$mod" or name.startswith("$bits"):
            yield f"does not support {name}"
        if name == "$geoWithin":
            yield "does not support $geoWithin"
        if name == "$type":
            yield "confuses types in $type"
        if name == "$exists" and is_nested:
            yield "mishandles $exists in arrays"
        if name == "$all" and not operand:
            yield "matches every record with an empty $all"
        if name in ("$gt", "$gte", "$lt", "$lte"):
            yield from _unsupported_comparison(operand)
        if name in _EQUALITIES:
            for value in [operand] if name in ("$eq", "$ne") else operand:
                yield from _unsupported_equality(value, is_nested)
        if name == "$regex" and _CLASSES.search(operand):
            yield "matches \\w, \\d, \\s and \\b as Unicode classes, and lacks some patterns of PCRE"
        if name == "$not":
            yield from _unsupported_in_field(path, operand)
        if name == "$elemMatch":
            yield "applies $elemMatch also to lists of lists"


def _unsupported_comparison(operand: Any) -> Iterator[str]:
    if isinstance(operand, list | Mapping):
        yield "mishandles range comparisons with lists and objects"
    if operand is None:
        yield "mishandles range comparisons with null"
    if isinstance(operand, Decimal128):
        yield "mishandles decimals"
    if operand != operand:
        yield "never matches NaN"


def _unsupported_equality(value: Any, is_nested: bool) -> Iterator[str]:
    if isinstance(value, bool | int | float) and value in (0, 1):
        yield "treats true as 1 and false as 0"
    if isinstance(value, list | Mapping):
        yield "mishandles comparisons of lists and objects"
    if isinstance(value, Regex):
        yield "compares patterns in lists as values"
    if isinstance(value, Decimal128):
        yield "mishandles decimals"
    if value is None and is_nested:
        yield "mishandles null in arrays"
