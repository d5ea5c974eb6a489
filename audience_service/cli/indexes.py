"""`audience-service indexes`: check or create what the service's speed and uniqueness rest on."""

import click
from rich.console import Console

from audience_service.settings import Settings, SettingsError
from audience_service.wiring.store import open_store


@click.command()
@click.option("--check", is_flag=True, help="Create nothing; exit with 1 if anything is missing.")
def indexes(*, check: bool) -> None:
    """Create the indexes that are missing in the database. Safe to repeat."""
    settings = Settings.load()
    if settings.mongodb_uri is None:
        raise SettingsError("AUDIENCE_MONGODB_URI: is missing; the embedded store makes its own indexes")
    console = Console(soft_wrap=True)  # one line an index, for scripts as well
    store = open_store(settings)
    collated = store.collated_collections(settings.collections)
    for name in collated:
        console.print(f"[red]unsafe[/]   {name} has a default collation, under which orgs could see one another")
    missing = store.missing_indexes(settings.datatypes, settings.related_datatypes)
    for index in missing:
        if check:
            console.print(f"[red]missing[/]  {index}  {index.reason}")
        else:
            with console.status(f"creating {index}"):
                store.create_index(index)
            console.print(f"[green]created[/]  {index}  {index.reason}")
    if not missing and not collated:
        console.print("every index is there")
    if collated or (check and missing):
        raise SystemExit(1)
