"""The composition root: the only module that sees every layer."""

import hashlib
import random
from collections.abc import Callable
from datetime import timedelta

from audience_service.domain.audiences.audiences import Audiences
from audience_service.domain.audiences.pages import AudiencePages
from audience_service.domain.audiences.populations import Populations
from audience_service.domain.audiences.uses import AudienceUses
from audience_service.domain.clock import now
from audience_service.domain.custom.as_audience import CustomAsAudience
from audience_service.domain.custom.audience import CUSTOM_PREFIX, CustomType
from audience_service.domain.custom.audiences import CustomAudiences
from audience_service.domain.custom.deletion import CustomDeletion
from audience_service.domain.custom.errors import TooManyLookalikes, TooManyRefreshes
from audience_service.domain.custom.plans import SpecPlans
from audience_service.domain.custom.ports import Plans, Refresher, Refreshers
from audience_service.domain.explanations.filter_explanation import FilterExplanations, Repositories
from audience_service.domain.explanations.membership_explanation import MembershipExplanations
from audience_service.domain.exports.exports import Exports
from audience_service.domain.fields.catalog import FieldCatalog
from audience_service.domain.filters import FilterCompiler
from audience_service.domain.insights.baselines import Baselines
from audience_service.domain.insights.insights import Insights
from audience_service.domain.jobs import JobLimits, JobRunner
from audience_service.domain.lookalikes.lookalikes import Lookalikes
from audience_service.domain.membership.checks import Checks
from audience_service.domain.membership.membership import Membership
from audience_service.domain.membership.partitions import Partitions
from audience_service.domain.reach.overlap import Overlaps
from audience_service.domain.reach.reach import Reach
from audience_service.domain.segments.contact_lists import ContactLists
from audience_service.domain.segments.deletion import SegmentDeletion
from audience_service.domain.segments.drafts import DraftReader
from audience_service.domain.segments.references import References
from audience_service.domain.segments.segments import Segments
from audience_service.domain.segments.versions import SegmentVersions
from audience_service.domain.segments.writes import SegmentWriter
from audience_service.domain.snapshots.differences import SnapshotDifferences
from audience_service.domain.snapshots.maker import MakingRules, SnapshotMaker
from audience_service.domain.snapshots.ready import ReadySnapshots
from audience_service.domain.snapshots.snapshot import SNAPSHOT_PREFIX
from audience_service.domain.snapshots.snapshots import Snapshots
from audience_service.domain.targeting.imports import PlatformImports
from audience_service.domain.targeting.platform_ids import PlatformIds
from audience_service.domain.targeting.targeting import Targeting
from audience_service.domain.targeting.taxonomy import packaged_taxonomies
from audience_service.domain.tokens import TokenSealer
from audience_service.domain.uploads.publishing import Publisher
from audience_service.domain.uploads.refreshing import UploadRefresh
from audience_service.domain.uploads.uploads import Uploads
from audience_service.domain.watches.bell import Bell
from audience_service.domain.watches.held import Pace
from audience_service.domain.watches.past import Past
from audience_service.domain.watches.rounds import Rounds
from audience_service.domain.watches.sizes import Sizes
from audience_service.domain.watches.starts import Starts
from audience_service.domain.watches.tracker import Tracker
from audience_service.domain.watches.wanted import Wanted
from audience_service.domain.watches.watching import Watching
from audience_service.domain.watches.workers import Workers
from audience_service.mongo.store import Store, embedded_store, mongo_store
from audience_service.rpc.audience_servicer import AudienceServicer
from audience_service.rpc.auth import Authenticator, ClaimNames, TokenRules
from audience_service.rpc.custom_servicer import CustomAudienceServicer
from audience_service.rpc.filter_servicer import FilterServicer
from audience_service.rpc.interceptor import Timeouts
from audience_service.rpc.membership_servicer import MembershipServicer
from audience_service.rpc.reach_servicer import ReachServicer
from audience_service.rpc.segment_servicer import SegmentServicer
from audience_service.rpc.server import RpcServer, ServerOptions, Servicers
from audience_service.rpc.targeting_servicer import TargetingServicer
from audience_service.settings import Settings, SettingsError
from audience_service.upkeep import Upkeep

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
    return sample_store(settings)


def sample_store(settings: Settings) -> Store:
    """A new embedded store with the sample contacts of every sample org."""
    try:
        from audience_service.samples import sample_contacts
    except ImportError:
        return embedded_store([], settings.datatypes, settings.related_datatypes)  # says what to install
    records = (record for org, count in SAMPLE_ORGS.items() for record in sample_contacts(org, count))
    return embedded_store(records, settings.datatypes, settings.related_datatypes)


def platform_imports(store: Store) -> PlatformImports:
    """What imports the exports of ad platforms into a store."""
    return PlatformImports(packaged_taxonomies(), store.platform_ids)


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
        sealer = TokenSealer(hashlib.sha256(b"audience position" + key).digest())
        ready = ReadySnapshots(store.snapshots, store.members)
        others = {SNAPSHOT_PREFIX: ready.as_audience, CUSTOM_PREFIX: CustomAsAudience(store.customs).find}
        audiences = Audiences(store.segments, compiler, others)
        drafts = DraftReader(audiences)
        writer = SegmentWriter(store.segments, store.lists, audiences)
        references = References(audiences, writer)
        catalog = FieldCatalog(store.samples, audiences)
        repositories = Repositories(store.plans, store.samples, store.members)
        self._maker = SnapshotMaker(store.snapshots, store.frozen, _making_rules(settings))
        populations = Populations(audiences, store.members, ready)
        snapshots = Snapshots(store.snapshots, ready, populations, self._maker, sealer)
        partitions = Partitions(store.partitions, store.slices, store.members)
        asked, told = Bell(), Bell()
        retention = timedelta(seconds=settings.watch_retention_seconds)
        rounds = Rounds(store.watches, store.ledger, audiences, told, retention)
        self._feed = store.changes(asked.ring)
        pace = Pace(settings.watch_poll_seconds, settings.watch_lease_seconds)
        self._workers = Workers(Tracker(store.watches, rounds, self._feed, pace), asked)
        self._watching = Watching(
            Wanted(store.watches, retention, settings.watches_per_org, self._workers.ask),
            store.ledger,
            Starts(store.starts, ready),
            audiences,
            sealer,
            settings.watch_checkpoint_seconds,
            told,
        )
        self._platform_ids = PlatformIds(store.platform_ids)
        spec_plans = SpecPlans(audiences)
        publisher = Publisher(store.customs, store.upload_storage)
        uploads = Uploads(store.customs, store.upload_storage, store.identifiers, publisher, sealer)
        rematch = UploadRefresh(store.customs, store.upload_storage, store.identifiers, publisher)
        lookalikes = Lookalikes(
            store.customs,
            audiences,
            store.lookalikes,
            store.members,
            store.samples,
            settings.insights_min_cell,
        )
        plans: Plans = {**dict.fromkeys(CustomType, spec_plans.plan), CustomType.LOOKALIKE: lookalikes.plan}
        lease_seconds = settings.snapshot_lease_seconds
        modelling = JobLimits(settings.lookalikes_at_once, lease_seconds=lease_seconds)
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
        customs = CustomAudiences(store.customs, store.lists, plans, refreshers, sealer)
        servicers = Servicers(
            segment=SegmentServicer(
                Segments(store.segments, store.lists, audiences, drafts, writer, references, sealer),
                ContactLists(store.lists, audiences, writer, sealer),
                SegmentVersions(store.versions, drafts, writer, references, sealer),
                SegmentDeletion(store.uses, writer),
            ),
            filter=FilterServicer(FilterExplanations(repositories, catalog, audiences, compiler), catalog),
            audience=AudienceServicer(
                AudienceUses(
                    store.segments,
                    store.uses,
                    audiences,
                    {CUSTOM_PREFIX: store.customs.get, SNAPSHOT_PREFIX: store.snapshots.get},
                )
            ),
            reach=ReachServicer(
                Reach(store.members, store.slices, populations, new_random=new_random),
                Overlaps(store.members, audiences),
                Insights(
                    store.insights,
                    audiences,
                    Baselines(settings.insights_baseline_seconds),
                    Sizes(store.watches, store.past),
                    settings.insights_min_cell,
                ),
            ),
            membership=MembershipServicer(
                Membership(store.members, populations, partitions, Past(store.watches, store.past, audiences), sealer),
                Checks(
                    store.checks,
                    AudiencePages(store.segments, store.customs),
                    audiences,
                    sealer,
                    settings.datatypes,
                ),
                MembershipExplanations(store.checks, audiences),
                snapshots,
                SnapshotDifferences(store.differences, ready, sealer),
                Exports(store.members, populations, ready, sealer),
                self._watching,
            ),
            targeting=TargetingServicer(Targeting(packaged_taxonomies(), self._platform_ids, sealer)),
            custom=CustomAudienceServicer(
                customs, CustomDeletion(store.customs, customs, store.uses), uploads, lookalikes
            ),
        )
        self._store = store
        self.server = RpcServer(servicers, _authenticator(settings), _options(settings))
        sweeps = [
            lambda: store.sweeper.sweep(now(), self._maker.busy_until()),
            lambda: store.custom_sweeper.sweep(now()),
            lambda: store.upload_sweeper.sweep(now()),
        ]
        self._upkeep = Upkeep(store, self.server, settings, sweeps, self._platform_ids)

    @property
    def port(self) -> int:
        """The port that is served."""
        return self.server.port

    def start(self) -> None:
        """Serve, whether the database answers or not; health follows it."""
        self.server.start()
        self._upkeep.start()
        self._workers.start()

    def stop(self, grace_seconds: float = 5.0) -> None:
        """Drain and close."""
        self._upkeep.end()
        drained = self.server.drain(grace_seconds)
        self._watching.stop()  # or they would listen for the whole grace
        drained.wait()
        self._maker.close()
        for runner in self._runners:
            runner.close()
        self._upkeep.join()
        self._workers.stop()
        self._feed.close()
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


def _making_rules(settings: Settings) -> MakingRules:
    return MakingRules(settings.snapshots_at_once, settings.snapshot_timeout_seconds, settings.snapshot_lease_seconds)


def _options(settings: Settings) -> ServerOptions:
    return ServerOptions(
        listen=settings.listen,
        threads=settings.threads,
        max_streams=settings.max_streams,
        stream_idle_seconds=settings.stream_idle_seconds,
        timeouts=Timeouts(settings.unary_timeout_seconds, settings.stream_timeout_seconds),
        reflection=settings.reflection,
        share_port=settings.workers > 1,
    )
