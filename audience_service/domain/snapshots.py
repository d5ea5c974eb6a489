"""The use cases on snapshots: create, get, list, delete; and snapshots as audiences."""

import dataclasses
import math
import time
from datetime import timedelta
from typing import Any

from audience_service.domain.audiences import Audiences, ListedAudience, Selection
from audience_service.domain.caller import Call
from audience_service.domain.clock import now
from audience_service.domain.creation import create_request, new_id
from audience_service.domain.errors import (
    AudienceNotFound,
    RequestIdReused,
    SnapshotNotFound,
    SnapshotNotReady,
    UnusableAudience,
)
from audience_service.domain.filters import identity
from audience_service.domain.ports import CreateRequest, Population
from audience_service.domain.snapshot import (
    SNAPSHOT_PREFIX,
    Snapshot,
    SnapshotQuery,
    SnapshotSource,
    SnapshotState,
    check_snapshot_name,
    check_snapshot_query,
    check_time_to_live,
)
from audience_service.domain.snapshot_maker import SnapshotMaker
from audience_service.domain.snapshot_ports import SnapshotRepository
from audience_service.domain.tokens import TokenSealer

_RESERVE_SECONDS, _RESERVE_SHARE = 1.0, 0.2
"""What of the deadline is kept for the answer: the lesser of the two."""
_LOOK_SECONDS = 0.25
"""How often a snapshot that another process makes is looked at."""


@dataclasses.dataclass(frozen=True, slots=True)
class SnapshotDraft:
    """What a caller wants frozen, what for, and for how long, None for the default."""

    selection: Selection
    name: str = ""
    time_to_live: timedelta | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class ListedSnapshots:
    """A page of snapshots as callers get it; the token is empty on the last page."""

    snapshots: tuple[Snapshot, ...]
    next_page_token: str
    total: int


@dataclasses.dataclass(frozen=True, slots=True)
class _Chosen:
    population: Population
    sources: tuple[SnapshotSource, ...] = ()


class ReadySnapshots:
    """Snapshots to read members of."""

    def __init__(self, snapshots: SnapshotRepository) -> None:
        self._snapshots = snapshots

    def get(self, call: Call, snapshot_id: str) -> Snapshot:
        """The snapshot, whatever its state. Raises SnapshotNotFound."""
        if not snapshot_id.startswith(SNAPSHOT_PREFIX):
            raise SnapshotNotFound.of(snapshot_id)
        return self._snapshots.get(call.org, snapshot_id, call.deadline)

    def ready(self, call: Call, snapshot_id: str) -> Snapshot:
        """The snapshot, which is READY. Raises SnapshotNotFound, SnapshotNotReady."""
        snapshot = self.get(call, snapshot_id)
        if snapshot.state is not SnapshotState.READY:
            raise SnapshotNotReady(
                f"the snapshot is {snapshot.state}", metadata={"id": snapshot.id, "state": snapshot.state.value}
            )
        return snapshot

    def check_whole(self, call: Call, snapshot: Snapshot, count: int) -> None:
        """Raise where not all members were read: SnapshotNotFound where the snapshot has been deleted meanwhile.

        Asked after they were read: what is deleted loses its manifest first.
        """
        self.ready(call, snapshot.id)
        if count != snapshot.count:
            raise RuntimeError(f"{count:,} of the {snapshot.count:,} members of {snapshot.id} were read")

    def as_audience(self, call: Call, snapshot_id: str) -> ListedAudience:
        """The snapshot as an audience: those frozen that are still in use.

        Raises AudienceNotFound, UnusableAudience.
        """
        try:
            snapshot = self.ready(call, snapshot_id)
        except SnapshotNotFound:
            raise AudienceNotFound.of(snapshot_id) from None
        except SnapshotNotReady as error:
            raise UnusableAudience(error.message, metadata=error.metadata) from None
        return ListedAudience(snapshot.id, snapshot.name, snapshot.living)


class Snapshots:
    """What an org does with its snapshots."""

    def __init__(
        self,
        snapshots: SnapshotRepository,
        ready: ReadySnapshots,
        audiences: Audiences,
        maker: SnapshotMaker,
        sealer: TokenSealer,
    ) -> None:
        self._snapshots = snapshots
        self._ready = ready
        self._audiences = audiences
        self._maker = maker
        self._sealer = sealer

    def create(self, call: Call, draft: SnapshotDraft, request_id: str) -> Snapshot:
        """Freeze who is in; CreateSnapshot in the protos states rules and errors."""
        name, kept = check_snapshot_name(draft.name), check_time_to_live(draft.time_to_live)
        request = create_request(call, request_id, _asked(draft))
        made = self._made_by(call, request)
        if made is None:
            made = self._begun(call, draft, name, kept, request)
        elif made.state is not SnapshotState.READY:
            made = self._begun_again(call, draft, name, kept, made)
        return self._awaited(call, made)

    def get(self, call: Call, snapshot_id: str) -> Snapshot:
        """The snapshot. Raises SnapshotNotFound."""
        return self._ready.get(call, snapshot_id)

    def list(self, call: Call, query: SnapshotQuery, page_size: int, page_token: str) -> ListedSnapshots:
        """A page of the org's snapshots. Raises InvalidArgument, InvalidPageToken."""
        query = check_snapshot_query(query)
        binding = ("snapshots", call.org, *dataclasses.astuple(query))
        after = self._sealer.open(page_token, binding, "page_token") if page_token else None
        page = self._snapshots.page(call.org, query, page_size, (after[0], after[1]) if after else None, call.deadline)
        token = self._sealer.seal(binding, list(page.last)) if page.last else ""
        return ListedSnapshots(page.snapshots, token, page.total)

    def delete(self, call: Call, snapshot_id: str) -> Snapshot:
        """Delete a snapshot, whatever its state; answers with it as it was. Raises SnapshotNotFound."""
        found = self.get(call, snapshot_id)
        return self._snapshots.remove(call.org, found.id, self._maker.busy_until(), call.deadline)

    def _made_by(self, call: Call, request: CreateRequest | None) -> Snapshot | None:
        found = self._snapshots.find_request(call.org, request, call.deadline) if request else None
        if request is None or found is None:
            return None
        snapshot, made_from = found
        if made_from != request.digest:
            raise RequestIdReused(
                "this request_id has made a snapshot from a different request",
                metadata={"request_id": request.request_id},
            )
        return snapshot

    def _begun(
        self, call: Call, draft: SnapshotDraft, name: str, kept: timedelta, request: CreateRequest | None
    ) -> Snapshot:
        """A new snapshot, which is being made; the one that the same request made at the same moment, if it did."""
        chosen = self._chosen(call, draft.selection)
        created = now()
        snapshot = Snapshot(
            id=new_id(SNAPSHOT_PREFIX),
            name=name,
            state=SnapshotState.CREATING,
            datatype=chosen.population.datatype,
            create_time=created,
            expire_time=created + kept,
            author=call.caller.subject,
            sources=chosen.sources,
            filter=draft.selection.filter,
        )
        try:
            self._snapshots.insert(call.org, snapshot, self._maker.lease(), request, call.deadline)
        except RequestIdReused:
            if made := self._made_by(call, request):
                return made
            raise
        self._maker.start(call.org, snapshot, chosen.population)
        return snapshot

    def _begun_again(self, call: Call, draft: SnapshotDraft, name: str, kept: timedelta, made: Snapshot) -> Snapshot:
        """The snapshot, of which another attempt has begun where the last one failed or was given up."""
        chosen = self._chosen(call, draft.selection)
        again = dataclasses.replace(
            made,
            name=name,
            state=SnapshotState.CREATING,
            datatype=chosen.population.datatype,
            expire_time=now() + kept,
            sources=chosen.sources,
            attempt=made.attempt + 1,
            failure="",
        )
        if not self._snapshots.take_over(call.org, again, self._maker.lease(), self._maker.busy_until(), call.deadline):
            return made
        self._maker.start(call.org, again, chosen.population)
        return again

    def _awaited(self, call: Call, snapshot: Snapshot) -> Snapshot:
        """The snapshot once it is no longer CREATING, or as it is shortly before the deadline."""
        left = call.deadline.remaining()
        until = math.inf if left is None else time.monotonic() + left - min(_RESERVE_SECONDS, left * _RESERVE_SHARE)
        while snapshot.state is SnapshotState.CREATING:
            patience = until - time.monotonic()
            if patience <= 0:
                break
            if not self._maker.wait(snapshot, None if math.isinf(patience) else patience):
                time.sleep(min(_LOOK_SECONDS, patience))
            snapshot = self._snapshots.get(call.org, snapshot.id, call.deadline)
        return snapshot

    def _chosen(self, call: Call, selection: Selection) -> _Chosen:
        if selection.filter is not None or not selection.audience_id:
            return _Chosen(self._audiences.population(call, selection))
        found = self._audiences.named(call, selection.audience_id)
        return _Chosen(found.population, (SnapshotSource(found.id, found.version, found.filter),))


def _asked(draft: SnapshotDraft) -> list[Any]:
    kept = None if draft.time_to_live is None else draft.time_to_live.total_seconds()
    return [draft.selection.audience_id, identity(draft.selection.filter), draft.name, kept]
