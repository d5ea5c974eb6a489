"""`audience-service indexes`: checks or creates the indexes that the service needs."""

import click
from rich.console import Console

from audience_service.settings import Settings
from audience_service.settings_error import SettingsError
from audience_service.wiring.store import open_store


@click.command()
@click.option("--check", is_flag=True, help="Only check; exit with 1 if an index is missing.")
def indexes(*, check: bool) -> None:
    """Create the indexes that the database lacks. Safe to repeat."""
    settings = Settings.load()
    if settings.mongodb_uri is None:
        raise SettingsError("AUDIENCE_MONGODB_URI: is missing; set it, since the embedded store needs no indexes")
    console = Console(soft_wrap=True)  # one line per index, so that scripts can parse it
    store = open_store(settings)
    collated = store.collated_collections(settings.collections)
    for name in collated:
        console.print(f"[red]unsafe[/]   {name} has a default collation, which could expose an org's records to others")
    missing = store.missing_indexes(settings.datatypes, settings.related_datatypes)
    for index in missing:
        if check:
            console.print(f"[red]missing[/]  {index}  {index.reason}")
        else:
            with console.status(f"creating {index}"):
                store.create_index(index)
            console.print(f"[green]created[/]  {index}  {index.reason}")
    if not missing and not collated:
        console.print("all indexes exist")
    if collated or (check and missing):
        raise SystemExit(1)
