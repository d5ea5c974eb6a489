"""Looks into other collections that a filter takes: lists of audiences, related records, and subscribers.

A list is read and put into the filter where all lists together fit there, which the database then answers like any $in.
Longer ones are joined, all by one $lookup for each record that the plain conditions have left: three to four times as
slow for 200,000 of a million (docs/performance.md), but without a limit. Related records are either too: related.py.
"""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from pymongo.database import Database

from audience_service.domain.core.context import Deadline
from audience_service.domain.filters.ast import Join, Node, OnList, Related, Suppressed, joins
from audience_service.domain.filters.compiler import MATCH_NONE, to_match
from audience_service.domain.filters.filter import Document
from audience_service.mongo.core.collections import LISTS
from audience_service.mongo.core.errors import with_deadline
from audience_service.mongo.core.scope import tenant_match
from audience_service.mongo.query.join_prefetch import (
    Candidates,
    JoinValues,
    constant_condition,
    prefetch_joins,
    related_count_condition,
    related_lookup_stages,
)
from audience_service.mongo.query.suppression import (
    address_stage,
    addresses_field,
    read_addresses,
    subscriber_lookup_stages,
    subscribers_field,
)

Stages = list[Document]

MAX_INLINE_BYTES = 12 * 1024 * 1024
"""How much of the 16 MiB that a command may take is for lists; a filter itself may take 1 MiB."""
_ITEM_OVERHEAD_BYTES = 14
"""What an item of a BSON array takes beside its text: type, index of up to 7 digits, length, ends."""
_READ_BATCH_SIZE = 50_000

NOT_PREFETCHED: Mapping[int, JoinValues] = MappingProxyType({})

_LISTS_FIELD = "__lists"
_RELATED_FIELD = "__related"


@dataclass(frozen=True, slots=True)
class Joins:
    """The joins of one filter, ready to run: the lists that go into it, by audience, and what is to be looked up."""

    org: str
    node: Node | None
    inlined_lists: Mapping[str, Sequence[str]]
    extra_nodes: Sequence[Node] = ()
    """Further nodes that are to be told of the records found: what they join is looked up as well."""
    inlined_addresses: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    """The addresses that go into it, by channel and status, of the channels whose subscribers are not looked up."""
    prefetched: Mapping[int, JoinValues] = field(default_factory=dict)
    """The values that related records were read as, by the identity of the join."""
    lists_preloaded: bool = False
    """Whether the records come with the lists that they are on, which a stage before (`list_look`) has looked up."""

    @property
    def has_prefetched(self) -> bool:
        """Whether any of what it joins was read before the command that it goes into."""
        return bool(self.inlined_lists or self.inlined_addresses or self.prefetched)

    @property
    def inline_match(self) -> Document:
        """What joins into the first match, where the node needs nothing to be looked up; else nothing."""
        return {} if self.node is None or self._pending_joins(self.node) else self.condition(self.node)

    @property
    def stages(self) -> Stages:
        """The looks, the match on what they bring, and what removes it again."""
        lookups = self.lookup_stages
        added_fields = [stage["$lookup"]["as"] for stage in lookups if "$lookup" in stage]
        added_fields += [
            addresses_field(channel) for channel in self.inlined_addresses if address_stage(channel) in lookups
        ]
        return [*lookups, {"$unset": added_fields}] if added_fields else []

    @property
    def lookup_stages(self) -> Stages:
        """The same without the removal, for what comes next to test its own nodes by."""
        pending = self._all_pending_joins
        lists = sorted({join.member_list.audience_id for join in pending if isinstance(join, OnList)})
        stages: Stages = [lists_lookup(self.org, lists)] if lists else []
        for number, join in enumerate(join for join in pending if isinstance(join, Related)):
            stages += related_lookup_stages(self.org, join, f"{_RELATED_FIELD}{number}")
        suppressed = [join for join in pending if isinstance(join, Suppressed)]
        for channel in sorted({join.channel for join in suppressed}):
            if channel in self.inlined_addresses:
                stages.append(address_stage(channel))
                continue
            statuses = sorted({join.status for join in suppressed if join.channel == channel})
            stages += subscriber_lookup_stages(self.org, channel, statuses)
        needs_match = self.node is not None and bool(self._pending_joins(self.node))
        return [*stages, {"$match": self.condition(self.node)}] if self.node is not None and needs_match else stages

    def condition(self, node: Node) -> Document:
        """A match of a node behind the looks."""
        return to_match(node, self._condition)

    @property
    def _all_pending_joins(self) -> list[Join]:
        """Of the same join in several nodes there is one look."""
        nodes = (*([] if self.node is None else [self.node]), *self.extra_nodes)
        return list({id(join): join for node in nodes for join in self._pending_joins(node)}.values())

    def _pending_joins(self, node: Node) -> list[Join]:
        return [join for join in joins(node) if not self._is_resolved(join)]

    def _is_resolved(self, join: Join) -> bool:
        """Whether nothing is to be brought to a record to tell."""
        match join:
            case OnList(contacts):
                return self.lists_preloaded or contacts.audience_id in self.inlined_lists
            case Suppressed(channel, status):
                return channel in self.inlined_addresses and not self.inlined_addresses[channel][status]
            case Related():
                return id(join) in self.prefetched or constant_condition(join) is not None

    def _condition(self, join: Join) -> Document:
        if isinstance(join, OnList):
            audience_id = join.member_list.audience_id
            if audience_id in self.inlined_lists:
                return {"sk": {"$in": self.inlined_lists[audience_id]}}
            return {f"{_LISTS_FIELD}.audience": {"$eq": audience_id}}
        if isinstance(join, Suppressed):
            if join.channel in self.inlined_addresses:
                addresses = self.inlined_addresses[join.channel][join.status]
                return {addresses_field(join.channel): {"$in": addresses}} if addresses else MATCH_NONE
            return {f"{subscribers_field(join.channel)}.status": {"$eq": join.status}}
        prefetched = (
            self.prefetched[id(join)].condition(join.local) if id(join) in self.prefetched else constant_condition(join)
        )
        if prefetched is not None:
            return prefetched
        related = [found for found in self._all_pending_joins if isinstance(found, Related)]
        return related_count_condition(
            join, f"{_RELATED_FIELD}{next(n for n, found in enumerate(related) if found is join)}"
        )


def build_joins(
    database: Database[dict[str, Any]],
    org: str,
    joined: Node | None,
    deadline: Deadline,
    key_range: Document | None = None,
    *,
    budget_divisor: int = 1,
    extra_nodes: Sequence[Node] = (),
    candidates: Candidates | None = None,
    prefetched: Mapping[int, JoinValues] = NOT_PREFETCHED,
    inlined_addresses: Mapping[str, Mapping[str, Sequence[str]]] | None = None,
    single_command: bool = False,
) -> Joins:
    """The joins of a filter's node, the lists in it read as long as they fit, the shortest first, each whole or not.

    `told` are further nodes that are to be told of the records found. For the part of the records whose sk meets a
    condition, lists are that part of them. They fit into one of `share` parts of the room that a command has; so do the
    values that related records are read as for `candidates`, if any are given, and the addresses of those who may not
    be reached; these are left to the command itself where it reads `at_once`. `held` and `addresses` have been read
    already, and together take half of the room at most; channels without addresses are looked up.
    """
    nodes = (*([] if joined is None else [joined]), *extra_nodes)
    found = [join for node in nodes for join in joins(node)]
    uses = Counter(join.member_list.audience_id for join in found if isinstance(join, OnList))
    inlined_lists: dict[str, list[str]] = {}
    remaining_bytes = MAX_INLINE_BYTES // budget_divisor // (2 if prefetched or inlined_addresses else 1)
    sizes = list_sizes(database, org, list(uses), deadline, key_range) if uses else {}
    for audience_id in sorted(uses, key=lambda name: sizes[name] * uses[name]):
        if sizes[audience_id] * uses[audience_id] * (_ITEM_OVERHEAD_BYTES + len(org)) > remaining_bytes:
            break
        keys = read_list(database, org, audience_id, deadline, key_range, remaining_bytes // uses[audience_id])
        if keys is None:
            break
        remaining_bytes -= uses[audience_id] * sum(map(_item_bytes, keys))
        inlined_lists[audience_id] = keys
    join_values = prefetched
    if candidates:
        join_values = prefetch_joins(database, org, nodes, candidates, deadline, remaining_bytes)
        remaining_bytes -= sum(values.size for values in join_values.values())
    if inlined_addresses is None:
        inlined_addresses = (
            {} if single_command else read_all_addresses(database, org, found, deadline, remaining_bytes)
        )
    return Joins(org, joined, inlined_lists, extra_nodes, inlined_addresses, join_values)


def read_all_addresses(
    database: Database[dict[str, Any]], org: str, found: Sequence[Join], deadline: Deadline, room: int
) -> dict[str, dict[str, list[str]]]:
    """The addresses by channel and status, of the channels whose addresses fit into so many bytes of a filter."""
    uses = Counter((join.channel, join.status) for join in found if isinstance(join, Suppressed))
    addresses: dict[str, dict[str, list[str]]] = {}
    for channel in sorted({channel for channel, _ in uses}):
        statuses = sorted(status for of, status in uses if of == channel)
        read = read_addresses(database, org, channel, statuses, deadline)
        if read is None:
            continue
        size = sum(uses[channel, status] * sum(map(_item_bytes, texts)) for status, texts in read.items())
        if size <= room:
            room -= size
            addresses[channel] = read
    return addresses


def list_sizes(
    database: Database[dict[str, Any]],
    org: str,
    audience_ids: Sequence[str],
    deadline: Deadline,
    key_range: Document | None = None,
) -> dict[str, int]:
    """How many records stand on each list, or on a part of it, all counted by one query from an index."""
    match = tenant_match(org, {"audience": {"$in": list(audience_ids)}}, key_range or {})
    stages: Stages = [{"$match": match}, {"$group": {"_id": "$audience", "n": {"$sum": 1}}}]
    with with_deadline(database, deadline):
        counted = {row["_id"]: int(row["n"]) for row in database[LISTS].aggregate(stages)}
    return {audience_id: counted.get(audience_id, 0) for audience_id in audience_ids}


def read_list(
    database: Database[dict[str, Any]],
    org: str,
    audience_id: str,
    deadline: Deadline,
    key_range: Document | None,
    max_bytes: int,
) -> list[str] | None:
    """The keys on a list, None where they take more than so many bytes in a filter."""
    match = tenant_match(org, {"audience": audience_id}, key_range or {})
    keys: list[str] = []
    with (
        with_deadline(database, deadline),
        closing(database[LISTS].find(match, {"_id": 0, "sk": 1}, batch_size=_READ_BATCH_SIZE)) as rows,
    ):
        while batch := [row["sk"] for row in itertools.islice(rows, _READ_BATCH_SIZE)]:
            keys += batch
            max_bytes -= sum(map(_item_bytes, batch))
            if max_bytes < 0:
                return None
    return keys


def _item_bytes(key: str) -> int:
    return _ITEM_OVERHEAD_BYTES + len(key.encode())


def lists_lookup(org: str, audience_ids: Sequence[str]) -> Document:
    """All lists at once: which of them the record is on."""
    match = tenant_match(org, {"audience": {"$in": list(audience_ids)}})
    stages: Stages = [{"$match": match}, {"$project": {"_id": 0, "audience": 1}}]
    return {
        "$lookup": {"from": LISTS, "localField": "sk", "foreignField": "sk", "pipeline": stages, "as": _LISTS_FIELD}
    }
