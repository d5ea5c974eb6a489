"""Builds the erasure of people: the use case, the tombstones of the process, and the sweep."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from audience_service.domain.erasure.sealing import PersonSealer
from audience_service.domain.erasure.service import Erasures
from audience_service.mongo.erasure.repository import MongoErasures
from audience_service.mongo.erasure.sweeper import ErasureSweeper
from audience_service.mongo.erasure.tombstones import Tombstones
from audience_service.mongo.store import Store
from audience_service.settings import Settings


@dataclass(frozen=True, slots=True)
class ErasureFeature:
    """The use case, the erased people that the process knows, and the sweep."""

    erasures: Erasures
    tombstones: Tombstones
    sweep: Callable[[datetime], None]
    close: Callable[[], None]


def build_erasure(settings: Settings, store: Store) -> ErasureFeature:
    """The feature of this process, whose queries exclude erased people until it is closed."""
    secret = settings.hash_secret() if settings.hash_key else None
    sealer = PersonSealer(secret) if secret else None
    tombstones = Tombstones(store.database, sealer)
    repository = MongoErasures(store.database, store.scope, store.snapshot_rows, tombstones.expire)
    return ErasureFeature(
        Erasures(repository, store.identifiers, settings.datatypes, secret, tombstones),
        tombstones,
        ErasureSweeper(store.database, repository, sealer).sweep if sealer else lambda _: None,
        store.scope.exclude(tombstones.sks),
    )
