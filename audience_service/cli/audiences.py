"""Audiences as arguments of commands: segments, custom audiences and snapshots, by id or by name."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import click
import grpc

from audience_service.cli.client import Client
from audience_service.cli.output import printable
from audience_service.pb.audience.v1.resources_pb2 import Filter

AD_PLATFORMS = "meta, google, tiktok, linkedin or thetradedesk"
"""What the help of an option says. Importing the platforms' rules takes longer than a command's start."""

_MAX_SHOWN = 10
_RANDOM_PART = re.compile("[A-Za-z0-9]{21}")
"""What follows the prefix in an id."""


@dataclass(frozen=True, slots=True)
class Named:
    """A resource that has an id and a name. `datatype` is that of its members, empty for a sync."""

    id: str
    name: str
    kind: str
    datatype: str = ""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of resource: the prefix of its ids, and how to get one, or all whose names may contain a text."""

    name: str
    prefix: str
    get: Callable[[Client, str], Named]
    list: Callable[[Client, str], Iterator[Named]]

    def is_id(self, text: str) -> bool:
        """Whether a text has the form of the ids. A name can have the prefix as well."""
        return text.startswith(self.prefix) and bool(_RANDOM_PART.fullmatch(text, len(self.prefix)))


def _segment(found: Any) -> Named:
    return Named(found.id, found.name, "segment", found.filter.datatype)


def _custom_audience(found: Any) -> Named:
    return Named(found.id, found.name, "custom audience", found.datatype)


def _snapshot(found: Any) -> Named:
    return Named(found.id, found.name or found.id, "snapshot", found.datatype)


def _sync(found: Any) -> Named:
    return Named(found.id, found.name, "sync")


# A command needs the messages of the kinds that it looks up, so each function imports its own.


def _get_segment(client: Client, found: str) -> Named:
    from audience_service.pb.audience.v1.segment_service_pb2 import GetSegmentRequest

    return _segment(client.call(client.segments.GetSegment, GetSegmentRequest(id=found)))


def _list_segments(client: Client, text: str) -> Iterator[Named]:
    from audience_service.pb.audience.v1.segment_service_pb2 import ListSegmentsRequest

    return map(
        _segment, client.items(client.segments.ListSegments, ListSegmentsRequest(name=text, page_size=1000), "segments")
    )


def _get_custom_audience(client: Client, found: str) -> Named:
    from audience_service.pb.audience.v1.custom_audience_service_pb2 import GetCustomAudienceRequest

    rpc = client.custom_audiences.GetCustomAudience
    return _custom_audience(client.call(rpc, GetCustomAudienceRequest(id=found)))


def _list_custom_audiences(client: Client, text: str) -> Iterator[Named]:
    from audience_service.pb.audience.v1.custom_audience_service_pb2 import ListCustomAudiencesRequest

    request = ListCustomAudiencesRequest(name=text, page_size=1000)
    rpc = client.custom_audiences.ListCustomAudiences
    return map(_custom_audience, client.items(rpc, request, "custom_audiences"))


def _get_snapshot(client: Client, found: str) -> Named:
    from audience_service.pb.audience.v1.membership_service_pb2 import GetSnapshotRequest

    return _snapshot(client.call(client.membership.GetSnapshot, GetSnapshotRequest(id=found)))


def _list_snapshots(client: Client, _: str) -> Iterator[Named]:
    from audience_service.pb.audience.v1.membership_service_pb2 import ListSnapshotsRequest

    return map(
        _snapshot, client.items(client.membership.ListSnapshots, ListSnapshotsRequest(page_size=100), "snapshots")
    )


def _get_sync(client: Client, found: str) -> Named:
    from audience_service.pb.audience.v1.sync_service_pb2 import GetSyncRequest

    return _sync(client.call(client.syncs.GetSync, GetSyncRequest(id=found)))


def _list_syncs(client: Client, _: str) -> Iterator[Named]:
    from audience_service.pb.audience.v1.sync_service_pb2 import ListSyncsRequest

    return map(_sync, client.items(client.syncs.ListSyncs, ListSyncsRequest(page_size=100), "syncs"))


SEGMENT = Kind("segment", "segment-", _get_segment, _list_segments)
CUSTOM_AUDIENCE = Kind("custom audience", "custom-", _get_custom_audience, _list_custom_audiences)
SNAPSHOT = Kind("snapshot", "snapshot-", _get_snapshot, _list_snapshots)
SYNC = Kind("sync", "sync-", _get_sync, _list_syncs)
AUDIENCES = (SEGMENT, CUSTOM_AUDIENCE, SNAPSHOT)


def find(client: Client, id_or_name: str, kinds: Iterable[Kind] = AUDIENCES) -> Named:
    """The resource of one of the kinds with an id or a name. The case of a name matters only if it decides.

    Raises ClickException for a name that none has, and for one that several have, with their ids. Raises
    grpc.RpcError.
    """
    kinds = tuple(kinds)
    if not id_or_name:
        raise click.UsageError(f"the name of a {kinds[0].name} is empty; give an id or a name")
    for kind in kinds:
        if id_or_name.startswith(kind.prefix):
            try:
                return kind.get(client, id_or_name)
            except grpc.RpcError as error:
                if kind.is_id(id_or_name) or error.code() is not grpc.StatusCode.NOT_FOUND:
                    raise
    similar = [
        found
        for kind in kinds
        for found in kind.list(client, id_or_name)
        if id_or_name.casefold() in found.name.casefold()
    ]
    exact = [found for found in similar if found.name == id_or_name]
    matches = exact or [found for found in similar if found.name.casefold() == id_or_name.casefold()]
    if len(matches) == 1:
        return matches[0]
    if matches:
        lines = "".join(f"\n  {found.id}  {found.kind} {printable(found.name)}" for found in matches)
        raise click.ClickException(f"{printable(id_or_name)} is the name of several; give the id of one:{lines}")
    names = ", ".join(str(printable(found.name)) for found in similar[:_MAX_SHOWN])
    hint = f"; names that contain it: {names}" if names else ""
    label = " or ".join(kind.name for kind in kinds)
    raise click.ClickException(f"no {label} has the id or name {printable(id_or_name)}{hint}")


def find_id(client: Client, id_or_name: str, kinds: Iterable[Kind] = AUDIENCES) -> str:
    """The id of a resource, without a call for a text that has its form. Raises as find does."""
    kinds = tuple(kinds)
    if any(kind.is_id(id_or_name) for kind in kinds):
        return id_or_name
    return find(client, id_or_name, kinds).id


def confirm_deletion(found: Named, *, is_confirmed: bool) -> None:
    """Ask before a deletion, unless an option has confirmed it. Raises Abort if the answer is no."""
    if not is_confirmed:
        click.confirm(f"delete the {found.kind} {printable(found.name)} ({found.id})?", abort=True, err=True)


def filter_options(command: Any) -> Any:
    """The command with the options `where` and `datatype`, for a filter instead of an audience."""
    for option in (
        click.option("--where", default="", help='A filter as JSON, instead of an audience: \'{"country": "US"}\'.'),
        click.option("--datatype", default="contact", show_default=True, help="The datatype of --where."),
    ):
        command = option(command)
    return command


def select(client: Client, request: Any, audience: str, where: str, datatype: str) -> None:
    """Make a request about an audience, or about a filter. Raises UsageError unless exactly one is given."""
    if bool(audience) == bool(where):
        raise click.UsageError("give one of AUDIENCE and --where")
    if audience:
        request.audience_id = find_id(client, audience)
    else:
        request.filter.CopyFrom(Filter(datatype=datatype, where_json=where))
