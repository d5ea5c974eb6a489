"""The typed nodes that a filter is parsed to.

Node
├── And, Or, Nor      over nodes
├── Not               one node negated ($not)
├── Condition         one operator on one field
├── ElementMatch      an element of an array that is an object matching a node ($elemMatch)
├── ElementIs         an element of an array that meets conditions itself ($elemMatch on scalars)
├── Expression        an expression over the record's fields ($expr, $tryExpr)
├── InAudience        membership of an audience ($inAudience), until it has been resolved
└── Join              a condition that needs another collection
    ├── OnList        the record is on the list of an audience
    ├── Related       a number of related records match a node ($related)
    ├── RecordDate    a date of a related record compares with one of the record ($$record)
    └── Suppressed    the record's address is suppressed; added by the service, never by callers

A node's `field_path` is its path in the request. It does not count when nodes are compared.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from audience_service.domain.filters.fields import LIFECYCLE_STATES
from audience_service.domain.filters.filter import Document
from audience_service.domain.filters.member_list import MemberList
from audience_service.domain.filters.operators import Operator


@dataclass(frozen=True, slots=True)
class And:
    """All children hold. Without children, every record matches."""

    children: tuple["Node", ...]
    field_path: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Or:
    """At least one child holds."""

    children: tuple["Node", ...]
    field_path: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Nor:
    """No child holds."""

    children: tuple["Node", ...]
    field_path: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Not:
    """The child does not hold. Records without the field match, as with MongoDB's $not."""

    child: "Node"
    field_path: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Condition:
    """`operator` holds for the field at `path`, a path in the record or, inside ElementMatch, in the element.

    Inside ElementIs the path is empty: the condition is on the element itself. `operand` is the result of the
    operator's `read`.
    """

    path: str
    operator: Operator
    operand: Any
    field_path: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class ElementMatch:
    """Some element of the array at `path` is an object for which `query` holds."""

    path: str
    query: "Node"
    field_path: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class ElementIs:
    """A single element of the array at `path` meets all the conditions."""

    path: str
    conditions: tuple["Node", ...]
    field_path: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Expression:
    """The aggregation expression is true. `fields` are the paths in the record that it reads.

    `is_lenient`: it is false on a record on which it fails ($tryExpr). Otherwise it fails the call.
    """

    document: Document
    fields: tuple[str, ...]
    field_path: str = field(default="", compare=False)
    is_lenient: bool = False


@dataclass(frozen=True, slots=True)
class InAudience:
    """The record is a member of an audience."""

    audience_id: str
    field_path: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class OnList:
    """The record is on the list. It may be archived or deleted."""

    member_list: MemberList


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A `function` of the values at `path` in related records, such as their sum, meets all `bounds`.

    The bounds are conditions with an empty path. Their values are all numbers, or all dates if it `takes_dates`.
    """

    function: str
    path: str
    bounds: tuple[Condition, ...]
    takes_dates: bool = False
    field_path: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Having:
    """All aggregates meet their bounds. One without usable values meets none, or all of them if `or_none`."""

    aggregates: tuple[Aggregate, ...]
    or_none: bool = False


@dataclass(frozen=True, slots=True)
class Slice:
    """The first or last `size` related records by the date at `by`, then by sk; the join counts those that match."""

    is_last: bool
    by: str
    size: int
    query: "Node"
    field_path: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Window:
    """A duration, in units of fixed length. It is negative for a date before another."""

    amount: int
    unit: str
    milliseconds: int


@dataclass(frozen=True, slots=True)
class Then:
    """A sequence: some related record has `second.min_count` to `second.max_count` later ones of a second relation.

    Records are ordered by the dates at `at` of their relations, then by sk. A later one is another record, and at most
    `within` later. `now` is set if the window must be over by then.
    """

    second: "Related"
    within: Window | None = None
    now: datetime | None = None
    field_path: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Related:
    """From `min_count` to `max_count` records of another datatype match `query`, and their `foreign` equals `local`.

    `test` is a further condition on these records, or selects some of them to count. If `min_count` is 0, a record
    without related records matches. `at` is the path of the date that orders the records of a sequence.
    """

    datatype: str
    local: str
    foreign: str
    query: "Node"
    min_count: int
    max_count: int | None
    field_path: str = field(default="", compare=False)
    test: Having | Slice | Then | None = None
    at: str = ""
    on_path: str = field(default="", compare=False)
    """The path of `on` in the request. A second step may have it from the first; the same holds for `at_path`."""
    at_path: str = field(default="", compare=False)

    @property
    def paths(self) -> "tuple[tuple[str, str], ...]":
        """The paths in the related records that it reads apart from `query`, each with its path in the request."""
        found = [(self.foreign, f"{self.on_path}.foreign")]
        match self.test:
            case Having(aggregates):
                found += [(aggregate.path, aggregate.field_path) for aggregate in aggregates]
            case Slice(by=by, field_path=field_path):
                found.append((by, f"{field_path}.by"))
        if self.at:
            found.append((self.at, self.at_path))
        return tuple(found)

    @property
    def steps(self) -> "tuple[Related, ...]":
        """The relations of a sequence in order; for others, the relation alone."""
        return (self, self.test.second) if isinstance(self.test, Then) else (self,)

    @property
    def record_dates(self) -> "tuple[RecordDate, ...]":
        """The comparisons with dates of the record."""
        return tuple(join for query in self.queries for join in joins(query) if isinstance(join, RecordDate))

    @property
    def own_queries(self) -> "tuple[Node, ...]":
        """The nodes that are about records of `datatype`, in the order of their evaluation, without a second step's."""
        return (self.query, self.test.query) if isinstance(self.test, Slice) else (self.query,)

    @property
    def queries(self) -> "tuple[Node, ...]":
        """The nodes that are about the related records of all steps, in the order of their evaluation."""
        return tuple(query for step in self.steps for query in step.own_queries)

    def with_queries(self, change: "Callable[[Node], Node]") -> "Related":
        """The same join with each of its `queries` changed."""
        test = self.test
        query = change(self.query)
        if isinstance(test, Slice):
            test = replace(test, query=change(test.query))
        elif isinstance(test, Then):
            test = replace(test, second=test.second.with_queries(change))
        return replace(self, query=query, test=test)


@dataclass(frozen=True, slots=True)
class RecordDate:
    """A date at `path` of a related record compares by `operator`, such as $gte, with one of the relation's own record.

    The latter is the single date at `record_path`, shifted. Without it the condition does not hold.
    """

    path: str
    operator: str
    record_path: str
    shift: Window | None
    field_path: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Suppressed:
    """An unarchived subscriber record gives the record's address on a channel this status."""

    channel: str
    """`email`, or `sms`, whose addresses are phone numbers."""
    status: str


Join = OnList | Related | RecordDate | Suppressed
Node = And | Or | Nor | Not | Condition | ElementMatch | ElementIs | Expression | InAudience | Join


def children(node: Node) -> tuple[Node, ...]:
    """The children of a logical node, which are about the same record; none for other nodes."""
    match node:
        case And(nodes) | Or(nodes) | Nor(nodes):
            return nodes
        case Not(child):
            return (child,)
    return ()


def walk(node: Node) -> Iterator[Node]:
    """The node and all nodes below it that are about the same record, from left to right."""
    yield node
    for child in children(node):
        yield from walk(child)


def conjuncts(node: Node) -> Iterator[Node]:
    """The conditions that must all hold: the children of an And and of Ands inside it, or the node itself."""
    if isinstance(node, And):
        for child in node.children:
            yield from conjuncts(child)
    else:
        yield node


def joins(node: Node) -> tuple[Join, ...]:
    """The joins of a node, in order."""
    return tuple(found for found in walk(node) if isinstance(found, OnList | Related | RecordDate | Suppressed))


def reads_lists(node: Node) -> bool:
    """Whether the rows of a list decide about a node, also as a condition on related records."""
    return any(
        isinstance(join, OnList) or (isinstance(join, Related) and any(map(reads_lists, join.queries)))
        for join in joins(node)
    )


def is_state_selection(node: Node) -> bool:
    """Whether a node selects records by states of the platform: `state` is one of them, or in a list of them."""
    if not isinstance(node, Condition) or node.path != "state" or node.operator.name not in ("$eq", "$in"):
        return False
    values = node.operand if node.operator.name == "$in" else [node.operand]
    return bool(values) and all(value is None or value in LIFECYCLE_STATES for value in values)


def selects_states(node: Node) -> bool:
    """Whether the top level of a filter selects states: in a condition there, or inside an $and there."""
    return any(map(is_state_selection, conjuncts(node)))
