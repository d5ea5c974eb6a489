"""Opens the database, or the embedded store with sample contacts."""

import itertools
from collections.abc import Callable
from typing import Any

from audience_service.domain.core.clock import now
from audience_service.mongo.core.client import Listener
from audience_service.mongo.core.monitoring import CommandMetrics, CommandSpans, PoolMetrics
from audience_service.mongo.embedded.store import embedded_store
from audience_service.mongo.store import Store, mongo_store
from audience_service.settings import Settings
from audience_service.settings_error import SettingsError

SAMPLE_ORGS = {"demo": 2_500, "demo2": 500}
"""The orgs of the embedded store, and the number of sample contacts of each."""
_BATCH_SIZE = 5_000


def open_store(settings: Settings) -> Store:
    """The database that the settings name, or a new embedded store with sample contacts. Raises SettingsError."""
    if settings.mongodb_uri:
        try:
            uri = settings.mongodb_uri.get_secret_value()
            return mongo_store(uri, settings.database, listeners=_listeners(settings))
        except ValueError as error:
            raise SettingsError(f"AUDIENCE_MONGODB_URI: {error}") from None
    return open_sample_store(settings)


def _listeners(settings: Settings) -> list[Listener]:
    """The listeners of the driver that the settings need."""
    listeners: list[Listener] = [CommandMetrics(), PoolMetrics()] if settings.metrics_listen else []
    return [*listeners, CommandSpans()] if settings.traces else listeners


def open_sample_store(settings: Settings) -> Store:
    """A new embedded store with the sample contacts of every sample org, as of today.

    It has no orders, events and consent, since this store cannot join them.
    """
    try:
        from audience_service.sample_data import sample_contacts
    except ImportError:
        return embedded_store([], settings.datatypes, settings.related_datatypes)  # its error says what to install
    today = now().replace(hour=0, minute=0, second=0, microsecond=0)
    records = (record for org, count in SAMPLE_ORGS.items() for record in sample_contacts(org, count, at=today))
    return embedded_store(records, settings.datatypes, settings.related_datatypes)


def insert_samples(
    store: Store,
    org: str,
    count: int,
    *,
    seed: int = 7,
    iso_text: bool = False,
    report: Callable[[int], object] = lambda _: None,
) -> None:
    """Insert sample contacts of the org, as of today, with their companies, orders, events and consent.

    `report` gets the number of contacts of each batch. Raises ImportError if the extra `embedded` is not installed.
    """
    from audience_service.sample_data import sample_activity, sample_companies, sample_contacts

    today = now().replace(hour=0, minute=0, second=0, microsecond=0)
    store.insert(list(sample_companies(org, seed=seed, iso_text=iso_text, at=today)))
    contacts = sample_contacts(org, count, seed=seed, iso_text=iso_text, at=today)
    while batch := list(itertools.islice(contacts, _BATCH_SIZE)):
        store.insert(batch)
        activity = sorted(
            (record for contact in batch for record in sample_activity(contact, iso_text=iso_text, at=today)),
            key=_datatype_of,
        )
        for _, records in itertools.groupby(activity, _datatype_of):
            store.insert(list(records))
        report(len(batch))


def _datatype_of(record: dict[str, Any]) -> str:
    return str(record["datatype"])
