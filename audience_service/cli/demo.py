"""`audience-service demo`: segments, reach, members and an upload, over gRPC on the embedded store."""

import json
import zlib

import click
import grpc
from google.protobuf.json_format import MessageToDict, Parse
from rich.console import Console

from audience_service.app import App
from audience_service.cli.log import configure_logs
from audience_service.cli.token import mint
from audience_service.pb.audience.v1 import custom_audience_service_pb2 as custom_audiences
from audience_service.pb.audience.v1 import membership_service_pb2 as membership
from audience_service.pb.audience.v1 import reach_service_pb2 as reach
from audience_service.pb.audience.v1 import segment_service_pb2 as segments
from audience_service.pb.audience.v1.custom_audience_service_pb2_grpc import CustomAudienceServiceStub
from audience_service.pb.audience.v1.membership_service_pb2_grpc import MembershipServiceStub
from audience_service.pb.audience.v1.reach_service_pb2_grpc import ReachServiceStub
from audience_service.pb.audience.v1.segment_service_pb2_grpc import SegmentServiceStub
from audience_service.settings import Settings
from audience_service.wiring.store import open_sample_store

_ORG = "demo"

SEGMENT = """{"name": "VIP recent openers", "type": "dynamic", "filter": {"datatype": "contact", "where":
 {"$and": [{"tags": "vip"}, {"lastEmailOpenedAt": {"$gte": "2026-03-25T00:00:00Z"}}]}}}"""

REACH = """{"filter": {"datatype": "contact", "where": {"country": "US", "tags": {"$in": ["lead", "mql"]}}}}"""


@click.command()
def demo() -> None:
    """Serve sample contacts from memory and call the service.

    Saves a segment, streams its members and uploads a list.
    """
    configure_logs("text", "warning")
    settings = Settings(listen="127.0.0.1:0", mongodb_uri=None, audit_log="off").with_dev_keys()
    console = Console(highlight=False)
    app = App(settings, open_sample_store(settings))
    app.start()
    console.print(f"serving sample contacts of the org [b]{_ORG}[/] on 127.0.0.1:{app.port} (embedded store)\n")
    metadata = (("authorization", f"Bearer {mint(settings, org=_ORG, subject='demo')}"), ("orgid", _ORG))
    try:
        with grpc.insecure_channel(f"127.0.0.1:{app.port}") as channel:
            is_consistent = _run_demo(console, channel, metadata)
    finally:
        app.stop()
    if not is_consistent:
        raise SystemExit(1)


def _run_demo(console: Console, channel: grpc.Channel, metadata: tuple[tuple[str, str], ...]) -> bool:
    create = Parse('{"segment": ' + SEGMENT + "}", segments.CreateSegmentRequest())
    console.rule("CreateSegment", align="left")
    segment = SegmentServiceStub(channel).CreateSegment(create, metadata=metadata)
    console.print_json(json.dumps(MessageToDict(segment)))

    console.rule("EstimateReach of an unsaved filter", align="left")
    estimate = ReachServiceStub(channel).EstimateReach(Parse(REACH, reach.EstimateReachRequest()), metadata=metadata)
    console.print_json(json.dumps(MessageToDict(estimate)))

    console.rule("EstimateReach and StreamMembers of the segment", align="left")
    saved = ReachServiceStub(channel).EstimateReach(
        reach.EstimateReachRequest(audience_id=segment.id), metadata=metadata
    )
    request = membership.StreamMembersRequest(
        audience_id=segment.id, fields=["email", "country", "lastEmailOpenedAt"], batch_size=25
    )
    members: list[membership.Member] = []
    total = None
    for batch in MembershipServiceStub(channel).StreamMembers(request, metadata=metadata):
        members += batch.members
        total = batch.totals.member_count if batch.HasField("totals") else total
    for member in members[:3]:
        console.print_json(json.dumps(MessageToDict(member)), indent=None)
    console.print(f"... {len(members) - 3} more")
    is_consistent = saved.count == len(members) == total == len({member.id for member in members})
    console.print(
        f"\nreach {saved.count}, members streamed {len(members)}, total {total}: {_format_verdict(is_consistent)}\n"
    )
    emails = [str(member.fields["email"]) for member in members[:20]]
    return _run_upload(console, channel, metadata, segment.id, emails) and is_consistent


def _run_upload(
    console: Console, channel: grpc.Channel, metadata: tuple[tuple[str, str], ...], segment_id: str, emails: list[str]
) -> bool:
    """Upload some members and an unknown address to a custom audience, and count its overlap with the segment.

    Returns whether the counts agree.
    """
    console.rule("CreateCustomAudience, UploadMembers of a CSV file, and GetOverlap", align="left")
    stub = CustomAudienceServiceStub(channel)
    draft = custom_audiences.CustomAudience(name="fair visitors", type="file_upload")
    audience = stub.CreateCustomAudience(
        custom_audiences.CreateCustomAudienceRequest(custom_audience=draft), metadata=metadata
    )
    data = "\n".join(["E-Mail", *map(str.upper, emails), "nobody@example.com"]).encode()
    checksum = zlib.crc32(data)
    parts = [
        custom_audiences.UploadMembersRequest(
            header=custom_audiences.UploadHeader(
                audience_id=audience.id, upload_id="fair", mode=custom_audiences.UPLOAD_MODE_APPEND
            )
        ),
        custom_audiences.UploadMembersRequest(chunk=custom_audiences.UploadChunk(data=data, crc32=checksum)),
        custom_audiences.UploadMembersRequest(
            trailer=custom_audiences.UploadTrailer(size_bytes=len(data), crc32=checksum)
        ),
    ]
    upload = stub.UploadMembers(iter(parts), metadata=metadata)
    console.print_json(json.dumps(MessageToDict(upload)))
    pair = reach.GetOverlapRequest(audience_id=audience.id, other_audience_id=segment_id)
    overlap = ReachServiceStub(channel).GetOverlap(pair, metadata=metadata)
    is_consistent = len(emails) == upload.matched_row_count == upload.list_size == overlap.size == overlap.count
    console.print(
        f"\nsegment members in the file {len(emails)}, contacts on the list {upload.list_size}, "
        f"overlap with the segment {overlap.count}: {_format_verdict(is_consistent)}"
    )
    return bool(is_consistent)


def _format_verdict(is_consistent: bool) -> str:
    return "[green]they agree[/]" if is_consistent else "[red]they do not agree[/]"
