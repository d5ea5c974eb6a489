"""`audience-service erasures`: what to do about erased people after a restore."""

import click

from audience_service.mongo.erasure.sweeper import repeat_removals
from audience_service.settings import Settings
from audience_service.settings_error import SettingsError
from audience_service.wiring.store import open_store


@click.group()
def erasures() -> None:
    """Manage the tombstones of erased people."""


@erasures.command()
def repeat() -> None:
    """Remove every erased person again, after a backup was restored.

    The running server does so within minutes. AUDIENCE_MONGODB_URI and AUDIENCE_DATABASE name the database.
    """
    settings = Settings.load()
    if settings.mongodb_uri is None:
        raise SettingsError("AUDIENCE_MONGODB_URI: is missing; set it, since the embedded store has no backup")
    store = open_store(settings)
    count = repeat_removals(store.database)
    store.close()
    click.echo(f"the server removes the people of {count:,} tombstones again, for an hour")
