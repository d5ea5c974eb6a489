"""`audience-service taxonomy`: imports the ad platforms' own locations, languages, interests and options."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from audience_service.cli.files import refuse_same_file, write_csv
from audience_service.domain.core.context import Deadline
from audience_service.domain.targeting.importer import TaxonomyImporter
from audience_service.domain.targeting.platforms import PLATFORMS, SYNONYMS, resolve_platform
from audience_service.domain.targeting.taxonomy_matcher import MatchResult
from audience_service.mongo.store import Store
from audience_service.settings import Settings
from audience_service.settings_error import SettingsError
from audience_service.wiring.store import open_store
from audience_service.wiring.targeting import taxonomy_importer

_TIMEOUT_SECONDS = 60.0
_IMPORT_TIMEOUT_SECONDS = 3600.0
_MAX_SHOWN = 10

_platform = click.option(
    "--platform",
    type=click.Choice((*PLATFORMS, *SYNONYMS)),
    callback=lambda _context, _option, name: resolve_platform(name),
    required=True,
    help="The ad platform.",
)


@click.group()
def taxonomy() -> None:
    """Import, list or remove the exports of ad platforms."""


@taxonomy.command("import")
@_platform
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Report the matches without writing them.")
@click.option(
    "--unlinked",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write every entry without a match to this CSV file.",
)
def import_(platform: str, files: tuple[Path, ...], unlinked: Path | None, *, dry_run: bool) -> None:
    """Import a platform's own exports, and link them to the taxonomies.

    Every entry becomes a node. An import replaces the earlier one of the platform, so import all of its files in one
    command. Servers use the earlier one until the new one is complete.
    """
    for file in files:
        refuse_same_file({str(file): file, "--unlinked": unlinked})
    texts = {file.name: _read_text(file) for file in files}
    if len(texts) < len(files):
        raise click.ClickException("two files have the same name; rename one of them")
    store = _open_store()
    importer = taxonomy_importer(store)
    result = importer.match(platform, texts)
    _print_report(result)
    if unlinked:
        _write_unlinked(unlinked, result)
    if dry_run:
        click.echo("dry run: nothing was written")
    else:
        _publish(importer, platform, texts, result)
    store.close()


def _publish(importer: TaxonomyImporter, platform: str, texts: Mapping[str, str], result: MatchResult) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True, highlight=False)) as progress:
        task = progress.add_task(f"nodes of {platform}", total=len(result.entries))
        count = importer.publish(
            platform,
            texts,
            result,
            Deadline.after(_IMPORT_TIMEOUT_SECONDS),
            lambda written: progress.advance(task, written),
        )
    click.echo(f"published {count:,} nodes of {platform}; servers show them now, and the linked ids within seconds")


@taxonomy.command("list")
def list_() -> None:
    """List the imports by platform."""
    store = _open_store()
    platforms = sorted(store.platform_ids.versions(Deadline.after(_TIMEOUT_SECONDS)))
    if not platforms:
        click.echo("no platform is imported")
    for platform in platforms:
        if imported := store.platform_ids.load(platform, Deadline.after(_TIMEOUT_SECONDS)):
            day, files = imported.imported_at.date().isoformat(), ", ".join(imported.files)
            nodes = sum(tree.size for tree in imported.trees.values())
            click.echo(
                f"{platform}: {nodes:,} nodes, {len(imported.ids):,} linked, {imported.unmatched_count:,} not linked,"
                f" imported on {day} from {files}"
            )
    store.close()


@taxonomy.command()
@_platform
def remove(platform: str) -> None:
    """Remove the import of a platform."""
    store = _open_store()
    if not taxonomy_importer(store).remove(platform, Deadline.after(_IMPORT_TIMEOUT_SECONDS)):
        raise click.ClickException(f"{platform} is not imported; audience-service taxonomy list shows the platforms")
    click.echo(f"removed the import of {platform}")
    store.close()


def _read_text(file: Path) -> str:
    data = file.read_bytes()
    if data.startswith(b"PK"):
        raise click.ClickException(f"{file}: is a ZIP archive; unpack it and import its files")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise click.ClickException(f"{file}: is not UTF-8 text; convert it to UTF-8") from None


def _open_store() -> Store:
    settings = Settings.load()
    if settings.mongodb_uri is None:
        raise SettingsError("AUDIENCE_MONGODB_URI: is missing; set it, since the database stores imports")
    return open_store(settings)


def _print_report(result: MatchResult) -> None:
    console = Console(soft_wrap=True, highlight=False)
    kinds = Counter(node_id.partition("-")[0] for node_id in result.ids)
    console.print(
        f"linked {len(result.ids):,}: " + ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
    )
    console.print(f"not linked {len(result.unmatched):,}")
    for reason, count in Counter(each.reason for each in result.unmatched).most_common():
        shown = [each for each in result.unmatched if each.reason == reason][:_MAX_SHOWN]
        examples = [
            f"{each.entry.name} ({', '.join(filter(None, (each.entry.platform_id, each.detail)))})" for each in shown
        ]
        more = f" and {count - _MAX_SHOWN:,} more" if count > _MAX_SHOWN else ""
        console.print(f"  {count:,}: {reason}: {'; '.join(examples)}{more}", markup=False)


def _write_unlinked(file: Path, result: MatchResult) -> None:
    with write_csv(file) as writer:
        writer.writerow(("platform_id", "name", "type", "country", "ancestors", "reason", "detail"))
        for each in result.unmatched:
            entry = each.entry
            ancestors = " > ".join(entry.ancestors)
            row = (entry.platform_id, entry.name, entry.type, entry.country, ancestors, each.reason, each.detail)
            writer.writerow(row)
