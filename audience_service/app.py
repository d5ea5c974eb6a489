"""The composition root: the only module that sees every layer."""

import hashlib
import random
from collections.abc import Callable
from datetime import timedelta

from audience_service.background import BackgroundTasks
from audience_service.domain.audiences.resolver import AudienceResolver
from audience_service.domain.audiences.selection_resolver import SelectionResolver
from audience_service.domain.audiences.service import AudienceUses
from audience_service.domain.core.clock import now
from audience_service.domain.core.jobs import JobLimits, JobRunner
from audience_service.domain.core.page_tokens import TokenCodec
from audience_service.domain.custom_audiences.deletion import CustomAudienceDeleter
from audience_service.domain.custom_audiences.errors import TooManyLookalikes, TooManyRefreshes
from audience_service.domain.custom_audiences.loader import CustomAudienceLoader
from audience_service.domain.custom_audiences.model import CUSTOM_PREFIX, CustomType
from audience_service.domain.custom_audiences.repository import Refresher, Refreshers, SpecValidators
from audience_service.domain.custom_audiences.service import CustomAudiences
from audience_service.domain.custom_audiences.spec_validation import SpecValidator
from audience_service.domain.explain.filter_explanation import ExplainRepositories, FilterExplainer
from audience_service.domain.explain.membership_explanation import MembershipExplainer
from audience_service.domain.exports.service import Exports
from audience_service.domain.filters import FilterCompiler
from audience_service.domain.history.history import MembershipHistory
from audience_service.domain.history.size_history import SizeHistoryReader
from audience_service.domain.insights.baselines import BaselineCache
from audience_service.domain.insights.service import Insights
from audience_service.domain.lookalikes.service import Lookalikes
from audience_service.domain.membership.audience_pages import AudiencePages
from audience_service.domain.membership.checks import MembershipChecker
from audience_service.domain.membership.partitions import Partitioner
from audience_service.domain.membership.service import Membership
from audience_service.domain.reach.overlap import Overlaps
from audience_service.domain.reach.service import Reach
from audience_service.domain.schema.service import FieldCatalog
from audience_service.domain.segments.contacts import SegmentContacts
from audience_service.domain.segments.deletion import SegmentDeleter
from audience_service.domain.segments.reference_checker import ReferenceChecker
from audience_service.domain.segments.service import Segments
from audience_service.domain.segments.validation import SegmentValidator
from audience_service.domain.segments.version_service import SegmentVersions
from audience_service.domain.segments.writer import SegmentWriter
from audience_service.domain.snapshots.diff import SnapshotDifferences
from audience_service.domain.snapshots.model import SNAPSHOT_PREFIX
from audience_service.domain.snapshots.reader import SnapshotReader
from audience_service.domain.snapshots.service import Snapshots
from audience_service.domain.snapshots.worker import SnapshotLimits, SnapshotWorker
from audience_service.domain.targeting.importer import TaxonomyImporter
from audience_service.domain.targeting.platform_ids import PlatformIds
from audience_service.domain.targeting.service import Targeting
from audience_service.domain.targeting.taxonomy import packaged_taxonomies
from audience_service.domain.uploads.publisher import Publisher
from audience_service.domain.uploads.rematching import UploadRematcher
from audience_service.domain.uploads.service import Uploads
from audience_service.domain.watch.notifier import Notifier
from audience_service.domain.watch.reconciler import Reconciler
from audience_service.domain.watch.registry import WatchRegistry
from audience_service.domain.watch.schedule import PollingConfig
from audience_service.domain.watch.scheduler import WatchScheduler
from audience_service.domain.watch.snapshot_start import SnapshotBootstrap
from audience_service.domain.watch.stream import WatchStreams
from audience_service.domain.watch.worker_pool import WorkerPool
from audience_service.mongo.store import Store, embedded_store, mongo_store
from audience_service.rpc.auth import Authenticator, ClaimNames, TokenRules
from audience_service.rpc.interceptor import Timeouts
from audience_service.rpc.server import RpcServer, ServerOptions, Servicers
from audience_service.rpc.services.audience import AudienceServicer
from audience_service.rpc.services.custom_audience import CustomAudienceServicer
from audience_service.rpc.services.filter import FilterServicer
from audience_service.rpc.services.membership import MembershipServicer
from audience_service.rpc.services.reach import ReachServicer
from audience_service.rpc.services.segment import SegmentServicer
from audience_service.rpc.services.targeting import TargetingServicer
from audience_service.settings import Settings, SettingsError

SAMPLE_ORGS = {"demo": 2_500, "demo2": 500}
"""The orgs of the embedded store and how many sample contacts each has."""

_MAX_WAITING_REFRESHES = 60
"""Refreshes of uploaded lists that may wait in one process, besides those that run."""


def open_store(settings: Settings) -> Store:
    """The database that the settings name, or a new embedded store with sample contacts. Raises SettingsError."""
    if settings.mongodb_uri:
        try:
            return mongo_store(settings.mongodb_uri.get_secret_value(), settings.database)
        except ValueError as error:
            raise SettingsError(f"AUDIENCE_MONGODB_URI: {error}") from None
    return open_sample_store(settings)


def open_sample_store(settings: Settings) -> Store:
    """A new embedded store with the sample contacts of every sample org."""
    try:
        from audience_service.sample_data import sample_contacts
    except ImportError:
        return embedded_store([], settings.datatypes, settings.related_datatypes)  # says what to install
    records = (record for org, count in SAMPLE_ORGS.items() for record in sample_contacts(org, count))
    return embedded_store(records, settings.datatypes, settings.related_datatypes)


def taxonomy_importer(store: Store) -> TaxonomyImporter:
    """What imports the exports of ad platforms into a store."""
    return TaxonomyImporter(packaged_taxonomies(), store.platform_ids)


class App:
    """One server process: bound on construction, serving after start."""

    def __init__(
        self, settings: Settings, store: Store, new_random: Callable[[], random.Random] = random.Random
    ) -> None:
        """Wire all of it. Raises SettingsError, RuntimeError if the port is taken.

        `new_random` returns the generator that draws one call's sample.
        """
        key = settings.key()
        compiler = FilterCompiler(settings.datatypes, settings.related_datatypes)
        tokens = TokenCodec(hashlib.sha256(b"audience position" + key).digest())
        snapshot_reader = SnapshotReader(store.snapshots, store.members)
        loaders = {
            SNAPSHOT_PREFIX: snapshot_reader.load_audience,
            CUSTOM_PREFIX: CustomAudienceLoader(store.custom_audiences).load,
        }
        audiences = AudienceResolver(store.segments, compiler, loaders)
        validator = SegmentValidator(audiences)
        writer = SegmentWriter(store.segments, store.lists, audiences)
        reference_checker = ReferenceChecker(audiences, writer)
        catalog = FieldCatalog(store.samples, audiences)
        repositories = ExplainRepositories(store.plans, store.samples, store.members)
        self._snapshot_worker = SnapshotWorker(store.snapshots, store.snapshot_rows, _snapshot_limits(settings))
        selection_resolver = SelectionResolver(audiences, store.members, snapshot_reader)
        snapshots = Snapshots(store.snapshots, snapshot_reader, selection_resolver, self._snapshot_worker, tokens)
        partitioner = Partitioner(store.partitions, store.slices, store.members)
        work_available, events_available = Notifier(), Notifier()
        retention = timedelta(seconds=settings.watch_retention_seconds)
        reconciler = Reconciler(store.watches, store.event_log, audiences, events_available, retention)
        self._change_stream = store.open_change_stream(work_available.notify)
        polling = PollingConfig(settings.watch_poll_interval_seconds, settings.watch_lease_seconds)
        self._worker_pool = WorkerPool(
            WatchScheduler(store.watches, reconciler, self._change_stream, polling), work_available
        )
        self._watch_streams = WatchStreams(
            WatchRegistry(store.watches, retention, settings.max_watches_per_org, self._worker_pool.wake),
            store.event_log,
            SnapshotBootstrap(store.snapshot_bootstrap, snapshot_reader),
            audiences,
            tokens,
            settings.watch_heartbeat_seconds,
            events_available,
        )
        self._platform_ids = PlatformIds(store.platform_ids)
        spec_validator = SpecValidator(audiences)
        publisher = Publisher(store.custom_audiences, store.upload_storage)
        uploads = Uploads(store.custom_audiences, store.upload_storage, store.identifiers, publisher, tokens)
        rematch = UploadRematcher(store.custom_audiences, store.upload_storage, store.identifiers, publisher)
        lookalikes = Lookalikes(
            store.custom_audiences,
            audiences,
            store.lookalikes,
            store.members,
            store.samples,
            settings.insights_min_bucket_size,
        )
        spec_validators: SpecValidators = {
            **dict.fromkeys(CustomType, spec_validator.validate),
            CustomType.LOOKALIKE: lookalikes.validate,
        }
        lease_seconds = settings.snapshot_lease_seconds
        modelling = JobLimits(settings.max_concurrent_lookalikes, lease_seconds=lease_seconds)
        rematching = JobLimits(max_waiting=_MAX_WAITING_REFRESHES, lease_seconds=lease_seconds)
        self._runners = (
            JobRunner("lookalike", modelling, TooManyLookalikes.of),
            JobRunner("rematch", rematching, TooManyRefreshes.of),
        )
        of_uploads = Refresher(rematch.check, rematch.refresh, self._runners[1])
        refreshers: Refreshers = {
            CustomType.FILE_UPLOAD: of_uploads,
            CustomType.CUSTOMER_MATCH: of_uploads,
            CustomType.LOOKALIKE: Refresher(lookalikes.check, lookalikes.refresh, self._runners[0], creates=True),
        }
        custom_audiences = CustomAudiences(store.custom_audiences, store.lists, spec_validators, refreshers, tokens)
        servicers = Servicers(
            segment=SegmentServicer(
                Segments(store.segments, store.lists, audiences, validator, writer, reference_checker, tokens),
                SegmentContacts(store.lists, audiences, writer, tokens),
                SegmentVersions(store.versions, validator, writer, reference_checker, tokens),
                SegmentDeleter(store.uses, writer),
            ),
            filter=FilterServicer(FilterExplainer(repositories, catalog, audiences, compiler), catalog),
            audience=AudienceServicer(
                AudienceUses(
                    store.segments,
                    store.uses,
                    audiences,
                    {CUSTOM_PREFIX: store.custom_audiences.get, SNAPSHOT_PREFIX: store.snapshots.get},
                )
            ),
            reach=ReachServicer(
                Reach(store.members, store.slices, selection_resolver, new_random=new_random),
                Overlaps(store.members, audiences),
                Insights(
                    store.insights,
                    audiences,
                    BaselineCache(settings.insights_baseline_cache_seconds),
                    SizeHistoryReader(store.watches, store.history),
                    settings.insights_min_bucket_size,
                ),
            ),
            membership=MembershipServicer(
                Membership(
                    store.members,
                    selection_resolver,
                    partitioner,
                    MembershipHistory(store.watches, store.history, audiences),
                    tokens,
                ),
                MembershipChecker(
                    store.checks,
                    AudiencePages(store.segments, store.custom_audiences),
                    audiences,
                    tokens,
                    settings.datatypes,
                ),
                MembershipExplainer(store.checks, audiences),
                snapshots,
                SnapshotDifferences(store.snapshot_diff, snapshot_reader, tokens),
                Exports(store.members, selection_resolver, snapshot_reader, tokens),
                self._watch_streams,
            ),
            targeting=TargetingServicer(Targeting(packaged_taxonomies(), self._platform_ids, tokens)),
            custom_audience=CustomAudienceServicer(
                custom_audiences,
                CustomAudienceDeleter(store.custom_audiences, custom_audiences, store.uses),
                uploads,
                lookalikes,
            ),
        )
        self._store = store
        self.server = RpcServer(servicers, _authenticator(settings), _server_options(settings))
        sweeps = [
            lambda: store.snapshot_sweeper.sweep(now(), self._snapshot_worker.capacity_free_at()),
            lambda: store.custom_audience_sweeper.sweep(now()),
            lambda: store.upload_sweeper.sweep(now()),
        ]
        self._background_tasks = BackgroundTasks(store, self.server, settings, sweeps, self._platform_ids)

    @property
    def port(self) -> int:
        """The port that is served."""
        return self.server.port

    def start(self) -> None:
        """Serve, whether the database answers or not; health follows it."""
        self.server.start()
        self._background_tasks.start()
        self._worker_pool.start()

    def stop(self, grace_seconds: float = 5.0) -> None:
        """Drain and close."""
        self._background_tasks.stop()
        drained = self.server.drain(grace_seconds)
        self._watch_streams.stop()  # or they would listen for the whole grace
        drained.wait()
        self._snapshot_worker.close()
        for runner in self._runners:
            runner.close()
        self._background_tasks.join()
        self._worker_pool.stop()
        self._change_stream.close()
        self._store.close()


def token_rules(settings: Settings) -> TokenRules:
    """The rules that tokens are held to. Raises SettingsError."""
    return TokenRules(
        key=settings.key(),
        algorithm=settings.jwt_algorithm,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        claims=ClaimNames(
            subject=settings.jwt_claim_subject,
            org=settings.jwt_claim_org,
            orgs=settings.jwt_claim_orgs,
            roles=settings.jwt_claim_roles,
            scope=settings.jwt_claim_scope,
        ),
    )


def _authenticator(settings: Settings) -> Authenticator:
    try:
        return Authenticator(token_rules(settings))
    except ValueError as error:
        raise SettingsError(f"AUDIENCE_JWT_KEY: {error}") from None


def _snapshot_limits(settings: Settings) -> SnapshotLimits:
    return SnapshotLimits(
        settings.max_concurrent_snapshots, settings.snapshot_timeout_seconds, settings.snapshot_lease_seconds
    )


def _server_options(settings: Settings) -> ServerOptions:
    return ServerOptions(
        listen=settings.listen,
        threads=settings.threads,
        max_streams=settings.max_streams,
        stream_send_timeout_seconds=settings.stream_send_timeout_seconds,
        timeouts=Timeouts(settings.unary_timeout_seconds, settings.stream_timeout_seconds),
        reflection=settings.reflection,
        share_port=settings.workers > 1,
    )
