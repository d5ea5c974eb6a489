"""`audience-service taxonomy`: the ids that ad platforms know places, languages and interests by."""

import csv
from collections import Counter
from pathlib import Path

import click
from rich.console import Console

from audience_service.domain.core.context import Deadline
from audience_service.domain.targeting.matching import MatchResult
from audience_service.domain.targeting.platforms import PLATFORMS, SYNONYMS, resolve_platform
from audience_service.mongo.store import Store
from audience_service.settings import Settings, SettingsError
from audience_service.wiring.store import open_store
from audience_service.wiring.targeting import taxonomy_importer

_TIMEOUT_SECONDS = 60.0
_MAX_SHOWN = 10

_platform = click.option(
    "--platform",
    type=click.Choice((*PLATFORMS, *SYNONYMS)),
    callback=lambda _context, _option, name: resolve_platform(name),
    required=True,
    help="Whose ids they are.",
)


@click.group()
def taxonomy() -> None:
    """Import the ids of ad platforms, list them, or remove them."""


@taxonomy.command("import")
@_platform
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Say what would be linked, and write nothing.")
@click.option(
    "--unlinked", type=click.Path(dir_okay=False, path_type=Path), help="A CSV file to name all that is not linked in."
)
def import_(platform: str, files: tuple[Path, ...], unlinked: Path | None, *, dry_run: bool) -> None:
    """Link a platform's own exports to the taxonomies.

    They take the place of what was imported of it before. All files of a platform are imported together: what none of
    them holds is gone afterwards.
    """
    texts = {file.name: _read_text(file) for file in files}
    if len(texts) < len(files):
        raise click.ClickException("two of the files have one name")
    store = _open_store()
    imports = taxonomy_importer(store)
    links = imports.match(platform, texts)
    _print_report(links)
    if unlinked:
        _write_unlinked(unlinked, links)
    if dry_run:
        click.echo("nothing is written")
    elif not links.ids:
        raise click.ClickException("nothing is linked, so what was imported before stays as it is")
    else:
        imports.publish(platform, texts, links, Deadline.after(_TIMEOUT_SECONDS))
        click.echo(f"published as the ids of {platform}; servers take them in within seconds")
    store.close()


@taxonomy.command("list")
def list_() -> None:
    """List what is imported."""
    store = _open_store()
    platforms = sorted(store.platform_ids.versions(Deadline.after(_TIMEOUT_SECONDS)))
    if not platforms:
        click.echo("nothing is imported")
    for platform in platforms:
        if imported := store.platform_ids.load(platform, Deadline.after(_TIMEOUT_SECONDS)):
            day, files = imported.imported_at.date().isoformat(), ", ".join(imported.files)
            click.echo(
                f"{platform}: {len(imported.ids):,} ids, {imported.unmatched_count:,} entries unlinked,"
                f" of {day}, from {files}"
            )
    store.close()


@taxonomy.command()
@_platform
def remove(platform: str) -> None:
    """Remove what is imported of a platform."""
    store = _open_store()
    if not store.platform_ids.remove(platform, Deadline.after(_TIMEOUT_SECONDS)):
        raise click.ClickException(f"nothing is imported of {platform}")
    click.echo(f"removed the ids of {platform}")
    store.close()


def _read_text(file: Path) -> str:
    octets = file.read_bytes()
    if octets.startswith(b"PK"):
        raise click.ClickException(f"{file}: is a ZIP archive; unpack it and import what is in it")
    try:
        return octets.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise click.ClickException(f"{file}: is not in UTF-8") from None


def _open_store() -> Store:
    settings = Settings.load()
    if settings.mongodb_uri is None:
        raise SettingsError("AUDIENCE_MONGODB_URI: is missing; imported ids are kept in the database")
    return open_store(settings)


def _print_report(links: MatchResult) -> None:
    console = Console(soft_wrap=True, highlight=False)
    kinds = Counter(node_id.partition("-")[0] for node_id in links.ids)
    console.print(
        f"linked {len(links.ids):,}: " + ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
    )
    console.print(f"not linked {len(links.unmatched):,}")
    for reason, count in Counter(each.reason for each in links.unmatched).most_common():
        shown = [each for each in links.unmatched if each.reason == reason][:_MAX_SHOWN]
        named = [
            f"{each.entry.name} ({', '.join(filter(None, (each.entry.platform_id, each.detail)))})" for each in shown
        ]
        more = f" and {count - _MAX_SHOWN:,} more" if count > _MAX_SHOWN else ""
        console.print(f"  {count:,}: {reason}: {'; '.join(named)}{more}", markup=False)


def _write_unlinked(file: Path, links: MatchResult) -> None:
    with file.open("w", encoding="utf-8", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(("platform_id", "name", "type", "country", "above", "reason", "detail"))
        for each in links.unmatched:
            entry = each.entry
            above = " > ".join(entry.ancestors)
            rows.writerow((entry.platform_id, entry.name, entry.type, entry.country, above, each.reason, each.detail))
