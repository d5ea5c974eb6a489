"""The composition root: one server process, built from its settings and its store."""

import random
from collections.abc import Callable

import structlog

from audience_service.background import BackgroundTasks, Sweeps
from audience_service.domain.core.clock import now
from audience_service.domain.targeting.platform_ids import PlatformIds
from audience_service.mongo.store import Store
from audience_service.rpc.server import RpcServer, Servicers
from audience_service.settings import Settings
from audience_service.wiring.audiences import build_audience_servicer
from audience_service.wiring.core import build_core
from audience_service.wiring.custom_audiences import build_custom_audiences
from audience_service.wiring.erasure import build_erasure
from audience_service.wiring.filters import (
    build_cost_gate,
    build_filter_explainer,
    build_filter_servicer,
    build_slow_call_log,
)
from audience_service.wiring.membership import build_membership_servicer
from audience_service.wiring.reach import build_reach_servicer
from audience_service.wiring.segments import build_segment_servicer
from audience_service.wiring.server import (
    build_authenticator,
    build_key_ring,
    build_observer,
    open_audit_log,
    server_options,
)
from audience_service.wiring.snapshots import build_snapshot_worker
from audience_service.wiring.syncs import build_sync_servicer
from audience_service.wiring.targeting import build_targeting_servicer
from audience_service.wiring.watch import build_watch

_END_SECONDS = 1.0
"""The time that the server has after the grace period to end the calls that it cancelled."""

_log = structlog.get_logger()


class App:
    """One server process: bound on construction, serving after start."""

    def __init__(
        self, settings: Settings, store: Store, new_random: Callable[[], random.Random] = random.Random
    ) -> None:
        """Build every feature and bind the port. Raises SettingsError, RuntimeError if the port is taken.

        `new_random` returns the generator that draws one call's sample.
        """
        self._erasure = build_erasure(settings, store)
        core = build_core(settings, store, self._erasure.tombstones)
        platform_ids = PlatformIds(store.platform_ids)
        self._store = store
        self._linter = core.linter
        self._snapshot_worker = build_snapshot_worker(settings, store)
        self._watch = build_watch(settings, core, store)
        self._custom_audiences = build_custom_audiences(settings, core, store, self._erasure.tombstones)
        explainer = build_filter_explainer(core, store)
        self._slow_calls = build_slow_call_log(settings, explainer)
        servicers = Servicers(
            segment=build_segment_servicer(settings, core, store),
            filter=build_filter_servicer(core, explainer),
            audience=build_audience_servicer(settings, store, self._erasure.erasures, core.export_log),
            reach=build_reach_servicer(
                settings,
                core,
                store,
                new_random,
                self._erasure.tombstones,
                build_cost_gate(settings, store, explainer),
            ),
            membership=build_membership_servicer(settings, core, store, self._snapshot_worker, self._watch.streams),
            sync=build_sync_servicer(core, store),
            targeting=build_targeting_servicer(platform_ids, store, core.tokens),
            custom_audience=self._custom_audiences.servicer,
        )
        self._audit_log = open_audit_log(settings)
        self._token_keys = build_key_ring(settings)
        authenticator = build_authenticator(settings, self._token_keys)
        observer = build_observer(settings, self._slow_calls)
        self.server = RpcServer(servicers, authenticator, server_options(settings), observer, self._audit_log)
        sweeps: Sweeps = {
            "snapshots": lambda: store.snapshot_sweeper.sweep(now(), self._snapshot_worker.capacity_free_at()),
            "custom audiences": lambda: store.custom_audience_sweeper.sweep(now()),
            "uploads": lambda: store.upload_sweeper.sweep(now()),
            "syncs": lambda: store.sync_sweeper.sweep(now()),
        }
        # The removal of a person may take minutes, for which the other sweeps must not wait.
        erasure_sweeps: Sweeps = {"erasures": lambda: self._erasure.sweep(now())}
        self.background_tasks = BackgroundTasks(store, self.server, settings, [sweeps, erasure_sweeps], platform_ids)

    @property
    def port(self) -> int:
        """The port that is served."""
        return self.server.port

    def start(self) -> None:
        """Serve, whether the database answers or not; health follows the database."""
        self._token_keys.start()
        self.server.start()
        self.background_tasks.start()
        self._watch.worker_pool.start()

    def stop(self, grace_seconds: float = 5.0) -> None:
        """Drain and close."""
        self._token_keys.stop()
        self.background_tasks.stop()
        drained = self.server.drain(grace_seconds)
        self._watch.streams.stop()  # open watches would use all of the grace period
        if not drained.wait(grace_seconds + _END_SECONDS):
            _log.error("the server has not stopped; closing the rest", grace_seconds=grace_seconds)
        self._audit_log.close()
        self._snapshot_worker.runner.close()
        self._custom_audiences.close()
        self.background_tasks.join()
        self._watch.stop()
        self._linter.close()
        self._slow_calls.close()
        self._store.close()
        self._erasure.close()
