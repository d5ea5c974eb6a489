"""Builds MembershipService."""

from audience_service.domain.core.quotas import Quota
from audience_service.domain.explain.membership_explanation import MembershipExplainer
from audience_service.domain.exports.service import Exports
from audience_service.domain.history.history import MembershipHistory
from audience_service.domain.membership.audience_pages import AudiencePages
from audience_service.domain.membership.checks import MembershipChecker
from audience_service.domain.membership.partitions import Partitioner
from audience_service.domain.membership.service import Membership
from audience_service.domain.snapshots.diff import SnapshotDifferences
from audience_service.domain.snapshots.service import Snapshots
from audience_service.domain.snapshots.worker import SnapshotWorker
from audience_service.domain.watch.stream import WatchStreams
from audience_service.mongo.store import Store
from audience_service.rpc.services.membership import MembershipServicer
from audience_service.settings import Settings
from audience_service.wiring.core import Core


def build_membership_servicer(
    settings: Settings, core: Core, store: Store, snapshot_worker: SnapshotWorker, watch_streams: WatchStreams
) -> MembershipServicer:
    """The servicer of MembershipService."""
    audiences, selections, snapshots, tokens = (
        core.audiences,
        core.selection_resolver,
        core.snapshot_reader,
        core.tokens,
    )
    partitioner = Partitioner(store.partitions, store.slices, store.members)
    history = MembershipHistory(store.watches, store.history, audiences)
    pages = AudiencePages(store.segments, store.custom_audiences)
    quota = Quota(
        "snapshots",
        settings.max_snapshots_per_org,
        store.snapshots.count,
        "delete snapshots, or wait until some expire",
    )
    return MembershipServicer(
        Membership(store.members, selections, partitioner, history, tokens, core.export_log),
        MembershipChecker(store.checks, pages, audiences, tokens, settings.datatypes),
        MembershipExplainer(store.checks, audiences),
        Snapshots(store.snapshots, snapshots, selections, snapshot_worker, tokens, quota),
        SnapshotDifferences(store.snapshot_rows, snapshots, tokens),
        Exports(store.members, selections, snapshots, tokens, core.export_log),
        watch_streams,
    )
