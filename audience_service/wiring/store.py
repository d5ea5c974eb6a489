"""Opens the database, or the embedded store with sample contacts."""

from audience_service.mongo.core.client import Listener
from audience_service.mongo.core.monitoring import CommandMetrics, CommandSpans, PoolMetrics
from audience_service.mongo.embedded.store import embedded_store
from audience_service.mongo.store import Store, mongo_store
from audience_service.settings import Settings, SettingsError

SAMPLE_ORGS = {"demo": 2_500, "demo2": 500}
"""The orgs of the embedded store, and the number of sample contacts of each."""


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
    """A new embedded store with the sample contacts of every sample org."""
    try:
        from audience_service.sample_data import sample_contacts
    except ImportError:
        return embedded_store([], settings.datatypes, settings.related_datatypes)  # its error says what to install
    records = (record for org, count in SAMPLE_ORGS.items() for record in sample_contacts(org, count))
    return embedded_store(records, settings.datatypes, settings.related_datatypes)
