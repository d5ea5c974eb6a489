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

from audience_service.domain.caller import Deadline
from audience_service.domain.filters.compile import NOTHING, emit
from audience_service.domain.filters.filter import Document
from audience_service.domain.filters.nodes import Join, Node, OnList, Related, Suppressed, joins
from audience_service.mongo.collections import LISTS
from audience_service.mongo.failures import limited
from audience_service.mongo.related import (
    Candidates,
    Held,
    certain,
    found_condition,
    read_related,
    related_stages,
)
from audience_service.mongo.scope import scoped
from audience_service.mongo.subscribers import (
    address_stage,
    found_addresses,
    found_subscribers,
    read_addresses,
    subscriber_stages,
)

Stages = list[Document]

INLINE_BYTES = 12 * 1024 * 1024
"""How much of the 16 MiB that a command may take is for lists; a filter itself may take 1 MiB."""
_ITEM_BYTES = 14
"""What an item of a BSON array takes beside its text: type, index of up to 7 digits, length, ends."""
_READ_BATCH = 50_000

NOT_READ: Mapping[int, Held] = MappingProxyType({})

_ON_LISTS = "__lists"
_RELATED = "__related"


@dataclass(frozen=True, slots=True)
class Joins:
    """The joins of one filter, ready to run: the lists that go into it, by audience, and what is to be looked up."""

    org: str
    node: Node | None
    inline: Mapping[str, Sequence[str]]
    told: Sequence[Node] = ()
    """Further nodes that are to be told of the records found: what they join is looked up as well."""
    addresses: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    """The addresses that go into it, by channel and status, of the channels whose subscribers are not looked up."""
    related: Mapping[int, Held] = field(default_factory=dict)
    """The values that related records were read as, by the identity of the join."""
    at_hand: bool = False
    """Whether the records come with the lists that they are on, which a stage before (`list_look`) has looked up."""

    @property
    def is_read_before(self) -> bool:
        """Whether any of what it joins was read before the command that it goes into."""
        return bool(self.inline or self.addresses or self.related)

    @property
    def match(self) -> Document:
        """What joins into the first match, where the node needs nothing to be looked up; else nothing."""
        return {} if self.node is None or self._looked_up(self.node) else self.condition(self.node)

    @property
    def stages(self) -> Stages:
        """The looks, the match on what they bring, and what removes it again."""
        looks = self.looks
        brought = [stage["$lookup"]["as"] for stage in looks if "$lookup" in stage]
        brought += [found_addresses(channel) for channel in self.addresses if address_stage(channel) in looks]
        return [*looks, {"$unset": brought}] if brought else []

    @property
    def looks(self) -> Stages:
        """The same without the removal, for what comes next to test its own nodes by."""
        found = self._all_looked_up
        lists = sorted({join.contacts.audience_id for join in found if isinstance(join, OnList)})
        looks: Stages = [list_look(self.org, lists)] if lists else []
        for number, join in enumerate(join for join in found if isinstance(join, Related)):
            looks += related_stages(self.org, join, f"{_RELATED}{number}")
        suppressed = [join for join in found if isinstance(join, Suppressed)]
        for channel in sorted({join.channel for join in suppressed}):
            if channel in self.addresses:
                looks.append(address_stage(channel))
                continue
            statuses = sorted({join.status for join in suppressed if join.channel == channel})
            looks += subscriber_stages(self.org, channel, statuses)
        tested = self.node is not None and bool(self._looked_up(self.node))
        return [*looks, {"$match": self.condition(self.node)}] if self.node is not None and tested else looks

    def condition(self, node: Node) -> Document:
        """A match of a node behind the looks."""
        return emit(node, self._condition)

    @property
    def _all_looked_up(self) -> list[Join]:
        """Of the same join in several nodes there is one look."""
        nodes = (*([] if self.node is None else [self.node]), *self.told)
        return list({id(join): join for node in nodes for join in self._looked_up(node)}.values())

    def _looked_up(self, node: Node) -> list[Join]:
        return [join for join in joins(node) if not self._is_known(join)]

    def _is_known(self, join: Join) -> bool:
        """Whether nothing is to be brought to a record to tell."""
        match join:
            case OnList(contacts):
                return self.at_hand or contacts.audience_id in self.inline
            case Suppressed(channel, status):
                return channel in self.addresses and not self.addresses[channel][status]
            case Related():
                return id(join) in self.related or certain(join) is not None

    def _condition(self, join: Join) -> Document:
        if isinstance(join, OnList):
            audience_id = join.contacts.audience_id
            if audience_id in self.inline:
                return {"sk": {"$in": self.inline[audience_id]}}
            return {f"{_ON_LISTS}.audience": {"$eq": audience_id}}
        if isinstance(join, Suppressed):
            if join.channel in self.addresses:
                addresses = self.addresses[join.channel][join.status]
                return {found_addresses(join.channel): {"$in": addresses}} if addresses else NOTHING
            return {f"{found_subscribers(join.channel)}.status": {"$eq": join.status}}
        known = self.related[id(join)].condition(join.local) if id(join) in self.related else certain(join)
        if known is not None:
            return known
        related = [found for found in self._all_looked_up if isinstance(found, Related)]
        return found_condition(join, f"{_RELATED}{next(n for n, found in enumerate(related) if found is join)}")


def read_joins(
    database: Database[dict[str, Any]],
    org: str,
    joined: Node | None,
    deadline: Deadline,
    part: Document | None = None,
    *,
    share: int = 1,
    told: Sequence[Node] = (),
    candidates: Candidates | None = None,
    held: Mapping[int, Held] = NOT_READ,
    addresses: Mapping[str, Mapping[str, Sequence[str]]] | None = None,
    at_once: bool = False,
) -> Joins:
    """The joins of a filter's node, the lists in it read as long as they fit, the shortest first, each whole or not.

    `told` are further nodes that are to be told of the records found. For the part of the records whose sk meets a
    condition, lists are that part of them. They fit into one of `share` parts of the room that a command has; so do the
    values that related records are read as for `candidates`, if any are given, and the addresses of those who may not
    be reached; these are left to the command itself where it reads `at_once`. `held` and `addresses` have been read
    already, and together take half of the room at most; channels without addresses are looked up.
    """
    nodes = (*([] if joined is None else [joined]), *told)
    found = [join for node in nodes for join in joins(node)]
    uses = Counter(join.contacts.audience_id for join in found if isinstance(join, OnList))
    inline: dict[str, list[str]] = {}
    left = INLINE_BYTES // share // (2 if held or addresses else 1)
    sizes = list_sizes(database, org, list(uses), deadline, part) if uses else {}
    for audience_id in sorted(uses, key=lambda name: sizes[name] * uses[name]):
        if sizes[audience_id] * uses[audience_id] * (_ITEM_BYTES + len(org)) > left:
            break
        keys = _read_list(database, org, audience_id, deadline, part, left // uses[audience_id])
        if keys is None:
            break
        left -= uses[audience_id] * sum(map(_item_bytes, keys))
        inline[audience_id] = keys
    related = held
    if candidates:
        related = read_related(database, org, nodes, candidates, deadline, left)
        left -= sum(values.size for values in related.values())
    if addresses is None:
        addresses = {} if at_once else read_all_addresses(database, org, found, deadline, left)
    return Joins(org, joined, inline, told, addresses, related)


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
    part: Document | None = None,
) -> dict[str, int]:
    """How many records stand on each list, or on a part of it, all counted by one query from an index."""
    match = scoped(org, {"audience": {"$in": list(audience_ids)}}, part or {})
    stages: Stages = [{"$match": match}, {"$group": {"_id": "$audience", "n": {"$sum": 1}}}]
    with limited(database, deadline):
        counted = {row["_id"]: int(row["n"]) for row in database[LISTS].aggregate(stages)}
    return {audience_id: counted.get(audience_id, 0) for audience_id in audience_ids}


def _read_list(
    database: Database[dict[str, Any]],
    org: str,
    audience_id: str,
    deadline: Deadline,
    part: Document | None,
    most_bytes: int,
) -> list[str] | None:
    """The keys on a list, None where they take more than so many bytes in a filter."""
    match = scoped(org, {"audience": audience_id}, part or {})
    keys: list[str] = []
    with (
        limited(database, deadline),
        closing(database[LISTS].find(match, {"_id": 0, "sk": 1}, batch_size=_READ_BATCH)) as rows,
    ):
        while batch := [row["sk"] for row in itertools.islice(rows, _READ_BATCH)]:
            keys += batch
            most_bytes -= sum(map(_item_bytes, batch))
            if most_bytes < 0:
                return None
    return keys


def _item_bytes(key: str) -> int:
    return _ITEM_BYTES + len(key.encode())


def list_look(org: str, audience_ids: Sequence[str]) -> Document:
    """All lists at once: which of them the record is on."""
    match = scoped(org, {"audience": {"$in": list(audience_ids)}})
    stages: Stages = [{"$match": match}, {"$project": {"_id": 0, "audience": 1}}]
    return {"$lookup": {"from": LISTS, "localField": "sk", "foreignField": "sk", "pipeline": stages, "as": _ON_LISTS}}
