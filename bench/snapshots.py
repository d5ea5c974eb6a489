"""The rows for snapshots: their creation, and the differences between two of them."""

import time
from collections.abc import Iterator
from functools import partial
from typing import Any, Protocol

from google.protobuf.message import Message

from audience_service.mongo.core.collections import LISTS
from audience_service.mongo.core.indexes import create_index, required_indexes
from audience_service.pb.audience.v1 import membership_service_pb2 as membership
from audience_service.pb.audience.v1 import resources_pb2 as resources
from bench import reference
from bench.dataset import LARGE
from bench.measure import Row

_MAX_PAIRS = 5
"""Few, since `clear` must delete all members of the org after each pair."""
_POLL_SECONDS = 0.02


class Caller(Protocol):
    """Calls the service as an org."""

    def unary(self, path: str, request: Message, response_type: type[Message], timeout: float | None = None) -> Any:
        """The response of an RPC."""

    def last(self, path: str, request: Message) -> bytes:
        """The last message of a stream."""


def create(client: Caller, selection: resources.Filter) -> membership.Snapshot:
    """A new snapshot, once it is READY. Raises RuntimeError if its creation failed."""
    request = membership.CreateSnapshotRequest(filter=selection)
    snapshot: membership.Snapshot = client.unary("MembershipService/CreateSnapshot", request, membership.Snapshot)
    while snapshot.creation_state == resources.CREATION_STATE_CREATING:
        time.sleep(_POLL_SECONDS)
        snapshot = client.unary(
            "MembershipService/GetSnapshot", membership.GetSnapshotRequest(id=snapshot.id), type(snapshot)
        )
    if snapshot.creation_state != resources.CREATION_STATE_READY:
        raise RuntimeError(f"the snapshot failed: {snapshot.error}")
    return snapshot


def delete(client: Caller, snapshot_id: str) -> None:
    """Delete a snapshot and its rows."""
    request = membership.DeleteSnapshotRequest(id=snapshot_id)
    client.unary("MembershipService/DeleteSnapshot", request, membership.Snapshot, timeout=600)


def diff(client: Caller, first: str, second: str) -> tuple[int, int]:
    """The numbers of contacts that entered and exited, from the totals at the end of the stream."""
    request = membership.DiffSnapshotsRequest(from_snapshot_id=first, to_snapshot_id=second, batch_size=10_000)
    totals = membership.DiffSnapshotsResponse.FromString(client.last("MembershipService/DiffSnapshots", request)).totals
    return totals.entered_count, totals.exited_count


def _delete_rows(database: reference.Contacts) -> None:
    """Drop all rows. Rows of a deleted snapshot stay for an hour, which would slow down later pairs."""
    database[LISTS].drop()
    for index in required_indexes(()):
        if index.collection == LISTS:
            create_index(database, index)


def snapshot_rows(
    client: Caller, database: reference.Contacts, everyone: resources.Filter, filtered: resources.Filter
) -> Iterator[Row]:
    """A snapshot of everyone, and its differences from a snapshot of a filter."""
    snapshot_ids: list[str] = []

    def write() -> int:
        snapshot = create(client, everyone)
        snapshot_ids.append(snapshot.id)
        return snapshot.count

    def clear() -> None:
        reference.clear_snapshot_collection(database)
        while snapshot_ids:
            delete(client, snapshot_ids.pop())
        _delete_rows(database)

    by_hand = partial(reference.write_snapshot, database, LARGE)
    reference.prepare_snapshot_collection(database)
    yield Row("CreateSnapshot, everyone", "aggregate that ends in $merge", write, by_hand, _MAX_PAIRS, clear)
    first, second = create(client, everyone), create(client, filtered)
    yield Row(
        "DiffSnapshots, everyone and some",
        "$unionWith and $group",
        partial(diff, client, first.id, second.id),
        partial(reference.diff_snapshots, database, LARGE, f"{first.id}.1", f"{second.id}.1"),
    )
    for snapshot in (first, second):
        delete(client, snapshot.id)
    reference.drop_snapshot_collection(database)
