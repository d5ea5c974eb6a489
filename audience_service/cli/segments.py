"""`audience-service segments`: lists, shows, creates, edits and deletes segments."""

import codecs
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
from google.protobuf.field_mask_pb2 import FieldMask

from audience_service.cli.audiences import SEGMENT, confirm_deletion, find, find_id
from audience_service.cli.client import Client, ClientOptions, client_options, connect, request_id_option
from audience_service.cli.output import (
    format_filter,
    format_time,
    note_console,
    print_deleted,
    print_indented,
    print_json,
    print_list,
    print_resource,
    print_table,
    print_warnings,
)
from audience_service.domain.core.context import Scope
from audience_service.gateway.json_text import parse_json
from audience_service.pb.audience.v1 import audience_service_pb2 as uses_pb
from audience_service.pb.audience.v1 import segment_service_pb2 as pb
from audience_service.pb.audience.v1.resources_pb2 import Filter, Segment

_PAGE_SIZE = 100


@click.group()
def segments() -> None:
    """List, show, create, edit and delete segments."""


@segments.command("list")
@click.option("--name", default="", help="Only names that contain this text.")
@click.option("--type", "type_", type=click.Choice(["dynamic", "static"]), help="Only this type.")
@click.option("--deleted", is_flag=True, help="List the deleted segments instead.")
@client_options
def list_(*, name: str, type_: str | None, deleted: bool, options: ClientOptions) -> None:
    """List the segments of the org, newest first."""
    request = pb.ListSegmentsRequest(
        name=name, type=type_ or "", state="deleted" if deleted else "", page_size=_PAGE_SIZE
    )
    with connect(options) as client:
        found = list(client.items(client.segments.ListSegments, request, "segments"))
    print_list(
        options,
        found,
        lambda each: each.id,
        {
            "id": lambda each: each.id,
            "name": lambda each: each.name,
            "type": lambda each: each.type,
            "contacts": lambda each: each.contact_count if each.HasField("contact_count") else "",
            "version": lambda each: each.version,
            "updated (UTC)": lambda each: format_time(each.update_time),
            "author": lambda each: each.author,
        },
    )


@segments.command()
@click.argument("segment")
@client_options
def show(*, segment: str, options: ClientOptions) -> None:
    """Show a segment, by id or name, with its filter and the warnings about it."""
    with connect(options) as client:
        found = _get(client, segment)
    _print_segment(found, options)


@segments.command()
@click.argument("name")
@click.option("--where", default="", help='The filter as JSON: \'{"country": "US"}\'.')
@click.option("--file", type=click.File(encoding="utf-8"), help="Read the filter from a file; - is the standard input.")
@click.option("--datatype", default="contact", show_default=True, help="The datatype of the filter.")
@click.option("--description", default="", help="The description.")
@click.option("--static", is_flag=True, help="A fixed list of those who match now.")
@click.option("--from", "source", default="", metavar="AUDIENCE", help="A fixed list of the members of an audience.")
@click.option("--dry-run", is_flag=True, help="Check the segment without saving it.")
@request_id_option
@client_options
def create(
    *,
    name: str,
    where: str,
    file: Any,
    datatype: str,
    description: str,
    static: bool,
    source: str,
    dry_run: bool,
    request_id: str,
    options: ClientOptions,
) -> None:
    """Create a segment: the contacts that match a filter, or a fixed list of them."""
    if sum(map(bool, (where, file, source))) != 1:
        raise click.UsageError("give one of --where, --file and --from")
    segment = Segment(name=name, description=description, type="static" if static or source else "dynamic")
    request = pb.CreateSegmentRequest(validate_only=dry_run, request_id=request_id)
    with connect(options, Scope.READ, Scope.WRITE, request_id=request_id) as client:
        if source:
            request.source.audience_id = find_id(client, source)
        else:
            segment.filter.CopyFrom(Filter(datatype=datatype, where_json=_read(file) if file else where))
        request.segment.CopyFrom(segment)
        created = client.call(client.segments.CreateSegment, request)
    _print_segment(created, options)


@segments.command()
@click.argument("segment")
@client_options
def edit(*, segment: str, options: ClientOptions) -> None:
    """Edit name, description and filter of a segment in $EDITOR, as JSON.

    The change is saved only if nobody else has changed the segment meanwhile. If it is not saved, the text is kept in
    a file.
    """
    with connect(options, Scope.READ, Scope.WRITE) as client:
        found = _get(client, segment)
        original = _editable(found)
        with _keep_unless_saved(json.dumps(original, ensure_ascii=False, indent=2) + "\n", found.id) as path:
            click.edit(filename=str(path))
            update = _parse_edit(path.read_bytes(), found, original)
            saved = client.call(client.segments.UpdateSegment, update) if update else None
    if saved:
        _print_segment(saved, options)
    else:
        note_console(quiet=options.quiet).print("no change")


@segments.command()
@click.argument("segment")
@click.option("--force", is_flag=True, help="Delete the segment even if something uses it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@client_options
def delete(*, segment: str, force: bool, yes: bool, options: ClientOptions) -> None:
    """Delete a segment. The server refuses one in use, and keeps the deleted one for UndeleteSegment."""
    with connect(options, Scope.READ, Scope.WRITE) as client:
        found = find(client, segment, [SEGMENT])
        confirm_deletion(found, is_confirmed=yes)
        request = pb.DeleteSegmentRequest(id=found.id, force=force)
        deleted = client.call(client.segments.DeleteSegment, request)
    print_deleted(options, deleted)


@segments.command()
@click.argument("segment")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="The most versions to list.")
@client_options
def versions(*, segment: str, limit: int, options: ClientOptions) -> None:
    """List the versions of a segment, newest first. Give the id of a deleted one."""
    with connect(options) as client:
        request = pb.ListSegmentVersionsRequest(id=find_id(client, segment, [SEGMENT]), page_size=min(limit, 100))
        found: list[pb.SegmentVersion] = []
        for page in client.pages(client.segments.ListSegmentVersions, request):
            found += page.versions
            if len(found) >= limit:
                break
    print_list(
        options,
        found[:limit],
        lambda each: each.version,
        {
            "version": lambda each: each.version,
            "written (UTC)": lambda each: format_time(each.update_time),
            "editor": lambda each: each.editor,
            "changed": lambda each: ", ".join(each.changed_fields),
        },
    )
    if page.total_size > limit:
        note_console(quiet=options.quiet).print(f"{limit} of {page.total_size} versions; --limit shows more")


@segments.command()
@click.argument("audience")
@client_options
def usage(*, audience: str, options: ClientOptions) -> None:
    """List what uses an audience of any kind: campaigns and others, segments, lookalikes and syncs."""
    with connect(options) as client:
        request = uses_pb.GetAudienceUsageRequest(audience_id=find_id(client, audience))
        found = client.call(client.uses.GetAudienceUsage, request)
    if options.as_json:
        print_json(found)
        return
    rows = [
        *((use.consumer_kind, use.consumer_id, use.description) for use in found.uses),
        *(("segment", reference.id, reference.name) for reference in found.segments),
        *(("lookalike", reference.id, reference.name) for reference in found.lookalikes),
        *(("sync", reference.id, reference.name) for reference in found.syncs),
    ]
    if options.quiet:
        click.echo("".join(f"{row[1]}\n" for row in rows), nl=False)
        return
    total = found.use_count + found.segment_count + found.lookalike_count + found.sync_count
    if rows:
        print_table(("kind", "id", "name or description"), rows)
    note_console().print(f"{total:,} in total" if total else "nothing uses this audience")


def _read(file: Any) -> str:
    """The text of a file. Raises ClickException if it is not UTF-8."""
    try:
        text: str = file.read()
    except UnicodeDecodeError as error:
        raise click.ClickException(f"{file.name} is not UTF-8 at byte {error.start}") from None
    return text


def _get(client: Client, segment: str) -> Segment:
    request = pb.GetSegmentRequest(id=find_id(client, segment, [SEGMENT]))
    found: Segment = client.call(client.segments.GetSegment, request)
    return found


def _print_segment(segment: Segment, options: ClientOptions) -> None:
    has_printed = print_resource(
        options,
        segment,
        (
            ("id", segment.id),
            ("name", segment.name),
            ("description", segment.description),
            ("type", segment.type),
            ("datatype", segment.filter.datatype),
            ("contacts", segment.contact_count if segment.HasField("contact_count") else None),
            ("state", segment.state),
            ("version", segment.version if segment.HasField("version") else None),
            ("created (UTC)", format_time(segment.create_time)),
            ("updated (UTC)", format_time(segment.update_time)),
            ("author", segment.author),
        ),
    )
    if not has_printed:
        return
    if segment.filter.WhichOneof("conditions"):
        print_indented(json.loads(format_filter(segment.filter)))
    print_warnings(segment.warnings)


def _editable(segment: Segment) -> dict[str, Any]:
    """What an editor shows: the filter of a static segment cannot change."""
    fields = {"name": segment.name, "description": segment.description}
    if segment.type == "static":
        return fields
    return {**fields, "filter": json.loads(format_filter(segment.filter))}


@contextmanager
def _keep_unless_saved(text: str, segment_id: str) -> Iterator[Path]:
    """A new file with a text to edit, which is removed if the block succeeds.

    If the block fails, also by Ctrl-C, the file stays as the editor wrote it, and its path is printed.
    """
    content = text.encode("utf-8", "surrogatepass")
    try:
        descriptor, name = tempfile.mkstemp(prefix=f"{segment_id}-", suffix=".json")
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    except OSError as error:
        raise click.ClickException(
            f"the text to edit cannot be written: {error.strerror}; set TMPDIR to a folder"
        ) from None
    path = Path(name)
    try:
        yield path
    except BaseException:
        with suppress(OSError):
            if path.read_bytes() == content:
                path.unlink()
        if path.exists():
            note_console().print(f"your text is kept in {path}", soft_wrap=True, markup=False)
        raise
    with suppress(OSError):  # the change is saved
        path.unlink()


def _parse_edit(text: bytes, segment: Segment, original: dict[str, Any]) -> pb.UpdateSegmentRequest | None:
    """The update for an edited text, None if it changes nothing. Raises ClickException if it is not such an object."""
    try:
        edited = parse_json(text.removeprefix(codecs.BOM_UTF8))
        json.dumps(edited, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])[1:-1]
        raise click.ClickException(f"the text has {half}, half of a surrogate pair; write the character") from None
    except ValueError as error:
        raise click.ClickException(f"the text {error}") from None
    if not isinstance(edited, dict) or edited.keys() != original.keys():
        raise click.ClickException(f"the text must be an object with exactly the fields {', '.join(original)}")
    changed = [name for name in original if json.dumps(edited[name]) != json.dumps(original[name])]
    if not changed:
        return None
    for name in ("name", "description"):
        if not isinstance(edited[name], str):
            raise click.ClickException(f"{name} must be a text")
    update = Segment(id=segment.id, version=segment.version, name=edited["name"], description=edited["description"])
    if "filter" in changed:
        where = json.dumps(edited["filter"], ensure_ascii=False)
        update.filter.CopyFrom(Filter(datatype=segment.filter.datatype, where_json=where))
    return pb.UpdateSegmentRequest(segment=update, update_mask=FieldMask(paths=changed))
