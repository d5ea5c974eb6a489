"""`audience-service seed`: load sample contacts into a MongoDB."""

import itertools

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from audience_service.settings import Settings, SettingsError
from audience_service.wiring.store import open_store

_BATCH_SIZE = 5_000


@click.command()
@click.option("--org", default="demo", show_default=True, help="The org that gets them.")
@click.option("--count", default=10_000, show_default=True, type=click.IntRange(1), help="How many contacts.")
@click.option("--seed", "seed_number", default=7, show_default=True, help="The same seed makes the same contacts.")
@click.option("--iso-text", is_flag=True, help="Store dates as ISO text instead of BSON dates.")
def seed(*, org: str, count: int, seed_number: int, iso_text: bool) -> None:
    """Load sample contacts into the database, beside what is there.

    It is the one that AUDIENCE_MONGODB_URI and AUDIENCE_DATABASE name.
    """
    settings = Settings.load()
    if settings.mongodb_uri is None:
        raise SettingsError("AUDIENCE_MONGODB_URI: is missing; the embedded store has its own samples")
    try:
        from audience_service.sample_data import sample_contacts
    except ImportError:
        raise click.ClickException("samples need the extra: pip install 'audience-service[embedded]'") from None
    store = open_store(settings)
    contacts = sample_contacts(org, count, seed=seed_number, iso_text=iso_text)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task(f"contacts of {org}", total=count)
        while batch := list(itertools.islice(contacts, _BATCH_SIZE)):
            store.insert(batch)
            progress.advance(task, len(batch))
