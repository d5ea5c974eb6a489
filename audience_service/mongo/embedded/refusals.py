"""What the embedded store gets wrong in filters, as differential tests against a real engine have shown."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from bson import Decimal128
from pymongo.errors import PyMongoError

from audience_service.domain.core.errors import AudienceError, UnsupportedByStore
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.ast import And, Node, Nor, Not, Or, Related, Suppressed, joins
from audience_service.domain.filters.compiler import to_match
from audience_service.domain.filters.population import Population

_LOGICAL = frozenset(("$and", "$or", "$nor"))
_EQUALITIES = frozenset(("$eq", "$ne", "$in", "$nin", "$all"))


@contextmanager
def refuse_unsupported(population: Population) -> Iterator[None]:
    """Around a read: raises UnsupportedByStore, with the reason, where the store would answer it wrongly."""
    if isinstance(population, CompiledFilter):
        for reason in _unsupported_in_filter(population):
            raise UnsupportedByStore(f"the embedded store {reason}; a MongoDB answers this filter")
    try:
        yield
    except (AudienceError, PyMongoError):
        raise
    except Exception as error:
        # It fails in many ways on values that it does not know (decimals, say), none of them MongoDB's.
        raise UnsupportedByStore(f"the embedded store cannot evaluate this filter: {error}") from error


def remove_suppression(node: Node) -> Node:
    """The node as it is where nobody is suppressed."""
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
        yield "does not know the expressions of $expr"
    yield from _unsupported_in_match(population.match)
    if population.joins:
        if any(isinstance(join, Related | Suppressed) for join in joins(population.joins)):
            yield "does not join related records as MongoDB does"
        yield from _unsupported_in_match(to_match(population.joins, lambda _: {}))


def _unsupported_in_match(match: Mapping[str, Any]) -> Iterator[str]:
    """Why the store would answer a match wrongly, as differential tests against a real engine have shown."""
    for key, value in match.items():
        if key in _LOGICAL:
            for item in value:
                yield from _unsupported_in_match(item)
        else:
            yield from _unsupported_in_field(key, value)


def _unsupported_in_field(path: str, operators: Mapping[str, Any]) -> Iterator[str]:
    is_nested = "." in path.removeprefix("data.")
    if path.rpartition(".")[2].isdigit():
        yield "looks into the lists that stand at an index of a list"
    for name, operand in operators.items():
        if name == "$size":
            yield "counts objects and texts in $size"
        if name == "$mod" or name.startswith("$bits"):
            yield f"does not know {name}"
        if name == "$type":
            yield "mistakes types in $type"
        if name == "$exists" and is_nested:
            yield "looks for $exists in arrays wrongly"
        if name == "$all" and not operand:
            yield "finds everything with an empty $all"
        if name in ("$gt", "$gte", "$lt", "$lte"):
            yield from _unsupported_comparison(operand)
        if name in _EQUALITIES:
            for value in [operand] if name in ("$eq", "$ne") else operand:
                yield from _unsupported_equality(value, is_nested)
        if name == "$not":
            yield from _unsupported_in_field(path, operand)
        if name == "$elemMatch":
            yield "looks for elements of $elemMatch in lists of lists too"


def _unsupported_comparison(operand: Any) -> Iterator[str]:
    if operand is None:
        yield "finds nothing that is at least, or at most, null"
    if isinstance(operand, Decimal128):
        yield "mistakes decimals"
    if operand != operand:
        yield "finds no NaN"


def _unsupported_equality(value: Any, is_nested: bool) -> Iterator[str]:
    if isinstance(value, bool | int | float) and value in (0, 1):
        yield "takes true for 1 and false for 0"
    if isinstance(value, list | Mapping):
        yield "compares lists and objects wrongly"
    if isinstance(value, Decimal128):
        yield "mistakes decimals"
    if value is None and is_nested:
        yield "looks for null in arrays wrongly"
