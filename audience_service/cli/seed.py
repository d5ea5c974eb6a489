"""`audience-service seed`: loads sample records into a MongoDB database."""

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from audience_service.cli.output import note_console
from audience_service.settings import Settings
from audience_service.settings_error import SettingsError
from audience_service.wiring.store import insert_samples, open_store


@click.command()
@click.option("--org", default="demo", show_default=True, help="The org of the contacts.")
@click.option("--count", default=10_000, show_default=True, type=click.IntRange(1), help="The number of contacts.")
@click.option(
    "--seed",
    "seed_number",
    default=7,
    show_default=True,
    help="The random seed; on one day, equal seeds give equal records.",
)
@click.option("--if-empty", is_flag=True, help="Do nothing if the org has contacts.")
@click.option("--iso-text", is_flag=True, help="Store dates as ISO 8601 text instead of BSON dates.")
def seed(*, org: str, count: int, seed_number: int, if_empty: bool, iso_text: bool) -> None:
    """Add sample contacts, with companies, orders and events.

    Dates are relative to today. Some contacts have a record of their consent.

    AUDIENCE_MONGODB_URI and AUDIENCE_DATABASE name the database.
    """
    settings = Settings.load()
    if settings.mongodb_uri is None:
        raise SettingsError("AUDIENCE_MONGODB_URI: is missing; set it, since the embedded store has samples already")
    store = open_store(settings)
    if if_empty and store.has_records(org, "contact"):
        click.echo(f"the org {org} has contacts already")
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=note_console()) as progress:
        task = progress.add_task(f"contacts of {org}", total=count)
        try:
            insert_samples(
                store,
                org,
                count,
                seed=seed_number,
                iso_text=iso_text,
                report=lambda written: progress.advance(task, written),
            )
        except ImportError:
            raise click.ClickException(
                "the sample data is not installed; run: pip install 'audience-service[embedded]'"
            ) from None
