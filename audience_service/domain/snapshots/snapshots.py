"""The use cases on snapshots: create, get, list, delete."""

import dataclasses
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from audience_service.domain.audiences.audience import NamedAudience
from audience_service.domain.audiences.populations import Populations, selection_identity
from audience_service.domain.audiences.selection import Selection
from audience_service.domain.caller import Call
from audience_service.domain.clock import now
from audience_service.domain.creation import create_request, new_id
from audience_service.domain.errors import RequestIdReused
from audience_service.domain.ports import CreateRequest
from audience_service.domain.snapshots.maker import SnapshotMaker
from audience_service.domain.snapshots.ports import SnapshotRepository
from audience_service.domain.snapshots.ready import ReadySnapshots
from audience_service.domain.snapshots.snapshot import (
    SNAPSHOT_PREFIX,
    Snapshot,
    SnapshotQuery,
    SnapshotSource,
    SnapshotState,
    check_snapshot_name,
    check_time_to_live,
)
from audience_service.domain.tokens import TokenSealer


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


class Snapshots:
    """What an org does with its snapshots."""

    def __init__(
        self,
        snapshots: SnapshotRepository,
        ready: ReadySnapshots,
        populations: Populations,
        maker: SnapshotMaker,
        sealer: TokenSealer,
    ) -> None:
        self._snapshots = snapshots
        self._ready = ready
        self._populations = populations
        self._maker = maker
        self._sealer = sealer

    def create(self, call: Call, draft: SnapshotDraft, request_id: str) -> Snapshot:
        """Register a snapshot and return it at once; CreateSnapshot in the protos states rules and errors."""
        name, kept = check_snapshot_name(draft.name), check_time_to_live(draft.time_to_live)
        request = create_request(call, request_id, _asked(draft))
        made = self._made_by(call, request)
        if made is None:
            return self._begun(call, draft, name, kept, request)
        if made.is_free(now()):
            return self._begun_again(call, draft, name, kept, made)
        return made

    def get(self, call: Call, snapshot_id: str) -> Snapshot:
        """The snapshot. Raises SnapshotNotFound."""
        return self._ready.get(call, snapshot_id)

    def list(self, call: Call, query: SnapshotQuery, page_size: int, page_token: str) -> ListedSnapshots:
        """A page of the org's snapshots. Raises InvalidPageToken."""
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
        choice = self._populations.choose(call, draft.selection)
        self._maker.check_room()
        created = now()
        snapshot = Snapshot(
            id=new_id(SNAPSHOT_PREFIX),
            name=name,
            state=SnapshotState.CREATING,
            datatype=choice.population.datatype,
            create_time=created,
            expire_time=created + kept,
            author=call.caller.subject,
            sources=_sources(choice.sources),
            filter=draft.selection.filter,
            excluded_sources=_sources(choice.excluded_sources),
            purpose=draft.selection.purpose,
        )
        try:
            self._snapshots.insert(call.org, snapshot, self._maker.lease(), request, call.deadline)
        except RequestIdReused:
            if made := self._made_by(call, request):
                return made
            raise
        self._maker.start(call.org, snapshot, choice)
        return snapshot

    def _begun_again(self, call: Call, draft: SnapshotDraft, name: str, kept: timedelta, made: Snapshot) -> Snapshot:
        """The snapshot, of which another attempt has begun where the last one failed or was given up."""
        choice = self._populations.choose(call, draft.selection)
        self._maker.check_room()
        again = dataclasses.replace(
            made,
            name=name,
            state=SnapshotState.CREATING,
            datatype=choice.population.datatype,
            expire_time=now() + kept,
            sources=_sources(choice.sources),
            excluded_sources=_sources(choice.excluded_sources),
            attempt=made.attempt + 1,
            failure="",
            progress=0,
        )
        if not self._snapshots.take_over(call.org, again, self._maker.lease(), self._maker.busy_until(), call.deadline):
            # Somebody else was first; what is stored now says which attempt that is.
            return self._snapshots.get(call.org, made.id, call.deadline)
        self._maker.start(call.org, again, choice)
        return again


def _sources(named: Sequence[NamedAudience]) -> tuple[SnapshotSource, ...]:
    return tuple(SnapshotSource(found.id, found.version, found.filter) for found in named)


def _asked(draft: SnapshotDraft) -> list[Any]:
    kept = None if draft.time_to_live is None else draft.time_to_live.total_seconds()
    return [*selection_identity(draft.selection), draft.name, kept]
