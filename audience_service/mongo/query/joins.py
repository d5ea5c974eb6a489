"""Joins of a filter: lists of audiences, related records, and subscribers.

Worked example. Contacts with a score of at least 50, on the list "segment-vip", with at least two orders over 100:

    {score: {$gte: 50}, $inAudience: "segment-vip",
     $related: {datatype: "order", on: {local: "pk", foreign: "contactId"},
                where: {total: {$gt: 100}}, count: {$gte: 2}}}

The list has 2 contacts, and one contact has enough orders. Both are small, so `build_joins` reads them first, and the
filter becomes a single `$match` without lookups:

    $match  sk in org; data.score >= 50; pk $in ["contact-1"]; sk $in ["acme/contact/1", "acme/contact/7"]

If the list and the orders are large, each record that meets the plain conditions is joined with both:

    $match   sk in org; data.score >= 50
    $lookup  audience_member by sk, audience $in ["segment-vip"]       as __lists
    $lookup  order by data.contactId = pk, total > 100, $limit 2       as __related0
    $match   __lists.audience = "segment-vip"; __related0.1 exists     (the second order exists)
    $unset   __lists, __related0

Invariants:

1. Both ways match the same records.
2. A list is inlined completely or not at all, the shortest lists first, as long as they fit one command.
3. One `$lookup` serves all lists of a filter. For 200,000 of a million contacts it costs three to four times as much
   as inlining (docs/adr/0008-match-and-joins.md), but it has no limit of size.
4. Inlined values were read before the command. A command with `has_prefetched` therefore has no single point in time.

For related records, join_prefetch.py makes the choice; for subscribers, suppression.py.
"""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from pymongo.database import Database

from audience_service.domain.core.context import Deadline
from audience_service.domain.filters.ast import (
    And,
    Join,
    Node,
    OnList,
    RecordDate,
    Related,
    Suppressed,
    conjuncts,
    joins,
    reads_lists,
)
from audience_service.domain.filters.compiler import MATCH_NONE, to_match
from audience_service.domain.filters.filter import Document
from audience_service.mongo.core.collections import LISTS
from audience_service.mongo.core.errors import with_deadline
from audience_service.mongo.core.scope import TenantScope
from audience_service.mongo.query.join_prefetch import (
    Candidates,
    PrefetchedJoins,
    constant_condition,
    is_countable_by_value,
    prefetch_joins,
    related_count_condition,
    related_lookup_stages,
)
from audience_service.mongo.query.lookups import LISTS_FIELD, lists_lookup, source
from audience_service.mongo.query.suppression import (
    ChannelAddresses,
    address_stage,
    addresses_field,
    read_addresses,
    subscriber_lookup_stages,
    subscribers_field,
)

Stages = list[Document]

MAX_INLINE_BYTES = 12 * 1024 * 1024
"""The part of a command's 16 MiB that lists may fill. A filter itself may take 1 MiB."""
_ITEM_OVERHEAD_BYTES = 14
"""Bytes of an item of a BSON array, without its text: type, index of up to 7 digits, length, terminators."""
_READ_BATCH_SIZE = 50_000

NOT_PREFETCHED = PrefetchedJoins()

_RELATED_FIELD = "__related"

_COMPUTE_ONCE: Document = {"$unwind": "$sk"}
"""A stage that changes no record, as sk is one text. Some engines compute earlier stages again for each record that a
later lookup reads, unless this comes between: sequences take quadratic time then. MongoDB only reads sk for it."""


@dataclass(frozen=True, slots=True)
class Joins:
    """The joins of one filter: the values to inline, by audience, channel or join, and the lookups for the others."""

    scope: TenantScope
    org: str
    node: Node | None
    inlined_lists: Mapping[str, Sequence[str]]
    extra_nodes: Sequence[Node] = ()
    """Further nodes to evaluate on the records found. Their joins are looked up as well."""
    addresses: Mapping[str, ChannelAddresses] = field(default_factory=dict)
    """The suppressed addresses of each channel that the filter excludes."""
    prefetched: PrefetchedJoins = NOT_PREFETCHED
    lists_preloaded: bool = False
    """Whether an earlier stage (`lists_lookup`) has already joined the records with their lists."""

    @property
    def has_prefetched(self) -> bool:
        """Whether any joined value was read before the command that contains it."""
        has_addresses = any(texts for found in self.addresses.values() for texts in found.by_status.values())
        return bool(self.inlined_lists or has_addresses or self.prefetched.inlined)

    @property
    def reads_lists(self) -> bool:
        """Whether the stages read rows of lists."""
        return any(reads_lists(node) for node in self._nodes)

    @property
    def inline_match(self) -> Document:
        """The condition to inline into `$match`, or `{}` if the node needs a `$lookup`."""
        return {} if self.node is None or self._pending_joins(self.node) else self.condition(self.node)

    @property
    def counted_join(self) -> Related | None:
        """The relation by whose values the records can be counted, if it alone is pending, and its values are many."""
        pending = self._all_pending_joins
        if len(pending) != 1 or self.node is None or not isinstance(pending[0], Related):
            return None
        related = pending[0]
        # Equal filters share their nodes, so the relation may occur again where it is no conjunct: in an exclusion.
        all_joins = [found for node in self._nodes for found in joins(node)]
        is_alone = sum(found is related for found in all_joins) == sum(part is related for part in conjuncts(self.node))
        is_countable = id(related) in self.prefetched.oversized and is_countable_by_value(related)
        return related if is_alone and is_countable else None

    def match_without(self, join: Related) -> Document:
        """The condition of the node's other conjuncts, which need no lookup."""
        others = [part for part in conjuncts(self.node) if part is not join] if self.node is not None else []
        return self.condition(And(tuple(others)))

    @property
    def stages(self) -> Stages:
        """The lookups, the match on their results, and the removal of those results."""
        if not (lookups := self.lookup_stages):
            return []
        added_fields = [stage["$lookup"]["as"] for stage in lookups if "$lookup" in stage]
        added_fields += [addresses_field(channel) for channel in self._pending_channels]
        return [*lookups, {"$unset": added_fields}] if added_fields else []

    @property
    def lookup_stages(self) -> Stages:
        """The lookups and the match, without the removal: later stages may evaluate further nodes."""
        if not (pending := self._all_pending_joins):
            return []
        lists = sorted({join.member_list.list_id for join in pending if isinstance(join, OnList)})
        stages: Stages = [lists_lookup(self.scope, self.org, lists)] if lists else []
        for number, join in enumerate(join for join in pending if isinstance(join, Related)):
            stages += related_lookup_stages(self.scope, self.org, join, f"{_RELATED_FIELD}{number}")
        for channel, statuses in self._pending_channels.items():
            stages.append(address_stage(channel))
            if not self.addresses[channel].is_complete:
                stages += subscriber_lookup_stages(self.scope, self.org, channel, statuses)
        stages = _computed_once(stages)
        needs_match = self.node is not None and bool(self._pending_joins(self.node))
        return [*stages, {"$match": self.condition(self.node)}] if self.node is not None and needs_match else stages

    def condition(self, node: Node) -> Document:
        """Return the match of a node, for use after the lookups."""
        return to_match(node, self._condition)

    @property
    def _all_pending_joins(self) -> list[Join]:
        """The joins to look up, without duplicates: a join that occurs in two nodes has one lookup."""
        return list({id(join): join for node in self._nodes for join in self._pending_joins(node)}.values())

    @property
    def _nodes(self) -> tuple[Node, ...]:
        return (*([] if self.node is None else [self.node]), *self.extra_nodes)

    @property
    def _pending_channels(self) -> dict[str, list[str]]:
        """The channels whose addresses each record needs, with the statuses to look for."""
        suppressed = [join for join in self._all_pending_joins if isinstance(join, Suppressed)]
        return {
            channel: sorted({join.status for join in suppressed if join.channel == channel})
            for channel in sorted({join.channel for join in suppressed})
        }

    def _pending_joins(self, node: Node) -> list[Join]:
        return [join for join in joins(node) if not self._is_resolved(join)]

    def _is_resolved(self, join: Join) -> bool:
        """Return whether the join needs no lookup."""
        match join:
            case OnList(contacts):
                return self.lists_preloaded or contacts.list_id in self.inlined_lists
            case Suppressed(channel, status):
                return self.addresses[channel].is_complete and not self.addresses[channel].by_status[status]
            case Related():
                return id(join) in self.prefetched.inlined or constant_condition(join) is not None
            case RecordDate():
                raise TypeError("only related records are compared with dates of the record")

    def _condition(self, join: Join) -> Document:
        if isinstance(join, OnList):
            audience_id = join.member_list.list_id
            if audience_id in self.inlined_lists:
                return {"sk": {"$in": self.inlined_lists[audience_id]}}
            return {f"{LISTS_FIELD}.audience": {"$eq": audience_id}}
        if isinstance(join, Suppressed):
            found = self.addresses[join.channel]
            addresses = found.by_status[join.status]
            inlined = {addresses_field(join.channel): {"$in": addresses}} if addresses else MATCH_NONE
            looked_up = {f"{subscribers_field(join.channel)}.status": {"$eq": join.status}}
            if found.is_complete or not addresses:
                return inlined if found.is_complete else looked_up
            return {"$or": [inlined, looked_up]}
        if isinstance(join, RecordDate):
            raise TypeError("only related records are compared with dates of the record")
        values = self.prefetched.inlined.get(id(join))
        resolved = values.condition(join.local) if values else constant_condition(join)
        if resolved is not None:
            return resolved
        related = [found for found in self._all_pending_joins if isinstance(found, Related)]
        return related_count_condition(
            join, f"{_RELATED_FIELD}{next(n for n, found in enumerate(related) if found is join)}"
        )


def _computed_once(stages: Stages) -> Stages:
    """Return the stages with `_COMPUTE_ONCE` before each lookup but the first.

    It must not come before the match: ExplainFilter would then count the records before it on some engines.
    """
    first = next((number for number, stage in enumerate(stages) if "$lookup" in stage), 0)
    later = [[_COMPUTE_ONCE, stage] if "$lookup" in stage else [stage] for stage in stages[first + 1 :]]
    return [*stages[: first + 1], *itertools.chain.from_iterable(later)]


def build_joins(
    database: Database[dict[str, Any]],
    scope: TenantScope,
    org: str,
    joined: Node | None,
    deadline: Deadline,
    key_range: Document | None = None,
    *,
    budget_divisor: int = 1,
    extra_nodes: Sequence[Node] = (),
    candidates: Candidates | None = None,
    prefetched: PrefetchedJoins | None = None,
    addresses: Mapping[str, ChannelAddresses] | None = None,
    single_command: bool = False,
    for_count: bool = False,
) -> Joins:
    """Return the joins of a filter's node, and read the values that fit the command.

    The lists come first, from the shortest on. Then come the values of related records, if `candidates` are given. The
    addresses of suppressed subscribers come last.

    - `key_range` is a condition on sk. It also restricts the lists.
    - `budget_divisor` is the number of filters that share the space of one command.
    - `extra_nodes` are further nodes to evaluate on the records found.
    - `prefetched` and `addresses` were read before, and take at most half of the space.
    - `single_command` leaves the addresses to the command, so that it reads them in its own snapshot. Only those in
      unusual forms are read before it.
    - `for_count` reads the values of related records for a count, as `prefetch_joins` does.

    Raises what `read_addresses` raises.
    """
    nodes = (*([] if joined is None else [joined]), *extra_nodes)
    found = [join for node in nodes for join in joins(node)]
    uses = Counter(join.member_list.list_id for join in found if isinstance(join, OnList))
    inlined_lists: dict[str, list[str]] = {}
    remaining_bytes = MAX_INLINE_BYTES // budget_divisor // (2 if prefetched or addresses else 1)
    sizes = list_sizes(database, scope, org, list(uses), deadline, key_range) if uses else {}
    for audience_id in sorted(uses, key=lambda name: sizes[name] * uses[name]):
        if sizes[audience_id] * uses[audience_id] * (_ITEM_OVERHEAD_BYTES + len(org)) > remaining_bytes:
            break
        keys = read_list(database, scope, org, audience_id, deadline, key_range, remaining_bytes // uses[audience_id])
        if keys is None:
            break
        remaining_bytes -= uses[audience_id] * sum(map(_item_bytes, keys))
        inlined_lists[audience_id] = keys
    if candidates and prefetched is None:
        prefetched = prefetch_joins(
            database, scope, org, nodes, candidates, deadline, remaining_bytes, for_count=for_count
        )
        remaining_bytes -= sum(values.size for values in prefetched.inlined.values())
    if addresses is None:
        addresses = read_all_addresses(
            database, scope, org, found, deadline, remaining_bytes, unusual_only=single_command
        )
    return Joins(scope, org, joined, inlined_lists, extra_nodes, addresses, prefetched or NOT_PREFETCHED)


def read_all_addresses(
    database: Database[dict[str, Any]],
    scope: TenantScope,
    org: str,
    found: Sequence[Join],
    deadline: Deadline,
    max_bytes: int,
    *,
    unusual_only: bool = False,
) -> dict[str, ChannelAddresses]:
    """Return the suppressed addresses of each channel, which take at most `max_bytes` of a filter.

    Raises what `read_addresses` raises.
    """
    uses = Counter((join.channel, join.status) for join in found if isinstance(join, Suppressed))
    addresses: dict[str, ChannelAddresses] = {}
    for channel in sorted({channel for channel, _ in uses}):
        statuses = sorted(status for used_channel, status in uses if used_channel == channel)
        most_uses = max(uses[channel, status] for status in statuses)
        addresses[channel] = read_addresses(
            database, scope, org, channel, statuses, deadline, max_bytes // most_uses, unusual_only=unusual_only
        )
        for status, texts in addresses[channel].by_status.items():
            max_bytes -= uses[channel, status] * sum(map(_item_bytes, texts))
    return addresses


def list_sizes(
    database: Database[dict[str, Any]],
    scope: TenantScope,
    org: str,
    audience_ids: Sequence[str],
    deadline: Deadline,
    key_range: Document | None = None,
) -> dict[str, int]:
    """Return the number of records on each list, or in a key range of it. One indexed query counts them all."""
    match = scope.match(org, {"audience": {"$in": list(audience_ids)}}, key_range or {})
    stages: Stages = [{"$match": match}, {"$group": {"_id": "$audience", "n": {"$sum": 1}}}]
    with with_deadline(database, deadline):
        rows = source(database, LISTS, reads_lists=True).aggregate(stages)
        counted = {row["_id"]: int(row["n"]) for row in rows}
    return {audience_id: counted.get(audience_id, 0) for audience_id in audience_ids}


def read_list(
    database: Database[dict[str, Any]],
    scope: TenantScope,
    org: str,
    audience_id: str,
    deadline: Deadline,
    key_range: Document | None,
    max_bytes: int,
) -> list[str] | None:
    """Return the keys on a list, or None if they take more than `max_bytes` in a filter."""
    match = scope.match(org, {"audience": audience_id}, key_range or {})
    keys: list[str] = []
    with (
        with_deadline(database, deadline),
        closing(
            source(database, LISTS, reads_lists=True).find(match, {"_id": 0, "sk": 1}, batch_size=_READ_BATCH_SIZE)
        ) as rows,
    ):
        while batch := [row["sk"] for row in itertools.islice(rows, _READ_BATCH_SIZE)]:
            keys += batch
            max_bytes -= sum(map(_item_bytes, batch))
            if max_bytes < 0:
                return None
    return keys


def _item_bytes(key: str) -> int:
    return _ITEM_OVERHEAD_BYTES + len(key.encode())
