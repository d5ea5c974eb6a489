"""`audience-service demo`: a story over gRPC, in which a marketer finds, counts, follows and protects an audience."""

import secrets
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import click
import grpc
from google.protobuf.json_format import ParseDict
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from audience_service.app import App
from audience_service.cli.charts import bar_chart, percent
from audience_service.cli.client import Client, reason_of
from audience_service.cli.insights import dimension_chart
from audience_service.cli.log import configure_logs
from audience_service.cli.output import printable
from audience_service.cli.token import mint
from audience_service.mongo.store import Store
from audience_service.pb.audience.v1 import audience_service_pb2 as uses
from audience_service.pb.audience.v1 import custom_audience_service_pb2 as custom_audiences
from audience_service.pb.audience.v1 import filter_service_pb2 as filters
from audience_service.pb.audience.v1 import membership_service_pb2 as membership
from audience_service.pb.audience.v1 import reach_service_pb2 as reach
from audience_service.pb.audience.v1 import segment_service_pb2 as segments
from audience_service.pb.audience.v1.resources_pb2 import Filter, Segment
from audience_service.settings import Settings
from audience_service.wiring.store import SAMPLE_ORGS, insert_samples, open_sample_store, open_store

_ORG = "demo"
_WATCH_SECONDS = 20.0

RECENT = {"$gte": {"$dateSubtract": {"startDate": "$$NOW", "unit": "day", "amount": 30}}}
SEGMENTS: dict[str, dict[str, Any]] = {
    "VIPs": {"tags": "vip"},
    "Recent openers": {"lastEmailOpenedAt": RECENT},
    "VIP recent openers": {"$and": [{"tags": "vip"}, {"lastEmailOpenedAt": RECENT}]},
    "High scores": {"score": {"$gt": 60}},
}
BUYERS = {"$related": {"datatype": "order", "on": {"local": "pk", "foreign": "contactId"}, "count": {"$gte": 2}}}


@click.command()
def demo() -> None:
    """Show how a marketer finds, counts and follows an audience.

    The story takes less than a minute, in memory. With AUDIENCE_MONGODB_URI it runs on a database of its own, which it
    drops at the end, and shows what the store in memory lacks. Exits with 1 if a count and its members disagree.
    """
    configure_logs("text", "error")
    console = Console(highlight=False)
    with _open_store() as (settings, store, name):
        app = App(settings, store)
        app.start()
        console.print(
            f"\n[b]A shop and {SAMPLE_ORGS[_ORG]:,} sample contacts[/], served on 127.0.0.1:{app.port} ({name})"
        )
        metadata = (("authorization", f"Bearer {mint(settings, org=_ORG, subject='demo')}"), ("orgid", _ORG))
        try:
            with grpc.insecure_channel(f"127.0.0.1:{app.port}") as channel:
                story = _Story(console, Client(channel, _ORG, metadata, 30.0), store)
                is_consistent = story.run(has_database=settings.mongodb_uri is not None)
        finally:
            app.stop(0)
    _print_next_steps(console, has_database=settings.mongodb_uri is not None)
    if not is_consistent:
        raise SystemExit(1)


@contextmanager
def _open_store() -> Iterator[tuple[Settings, Store, str]]:
    """The settings, a store with the samples, and its name: in memory, or a database that is dropped at the end."""
    changes: dict[str, Any] = {
        "listen": "127.0.0.1:0",
        "audit_log": "off",
        "watch_poll_interval_seconds": 0.2,
        "workers": 1,
    }
    configured = Settings.load()
    if configured.mongodb_uri is None:
        settings = Settings(mongodb_uri=None, **changes).with_dev_keys()
        yield settings, open_sample_store(settings), "in memory"
        return
    database = f"audience_demo_{secrets.token_hex(4)}"
    uri = configured.mongodb_uri
    settings = Settings(mongodb_uri=uri, database=database, **changes).with_dev_keys()
    store = open_store(settings)
    try:
        for index in store.missing_indexes(settings.datatypes, settings.related_datatypes):
            store.create_index(index)
        insert_samples(store, _ORG, SAMPLE_ORGS[_ORG])
        yield settings, store, f"the database {database}"
    finally:
        store = open_store(settings)  # the app has closed the other one
        store.database.client.drop_database(database)
        store.close()


class _Story:
    """The chapters of the demo. Each says what somebody wants, and shows what the service answers."""

    def __init__(self, console: Console, client: Client, store: Store) -> None:
        self._console = console
        self._client = client
        self._store = store
        self._ids: dict[str, str] = {}
        self._chapter = 0
        self._total = 0
        self._is_consistent = True

    def run(self, *, has_database: bool) -> bool:
        """Whether all numbers that must be equal were equal."""
        self._define()
        emails = self._read()
        self._compare()
        self._follow()
        self._upload(emails)
        self._protect()
        if has_database:
            self._explain()
            self._profile()
        return self._is_consistent

    def _begin(self, title: str, text: str) -> None:
        self._chapter += 1
        self._console.print()
        self._console.rule(f"[b]{self._chapter}. {escape(title)}", align="left", style="cyan")
        self._console.print(escape(text), style="italic")
        self._console.print()

    def _conclude(self, text: str, *numbers: int) -> None:
        """Print numbers that must be equal."""
        is_equal = len(set(numbers)) == 1
        self._is_consistent &= is_equal
        self._console.print(f"{text}: {'[green]they agree[/]' if is_equal else '[red]they do not agree[/]'}")

    def _define(self) -> None:
        self._begin(
            "Who should get the spring offer?",
            "Ann runs the shop's newsletter. She describes audiences instead of exporting lists. A segment is a filter"
            " with a name; relative dates move with the day.",
        )
        sizes: list[tuple[Text, int]] = []
        for name, where in SEGMENTS.items():
            draft = Segment(
                name=name, type="dynamic", filter=ParseDict({"datatype": "contact", "where": where}, Filter())
            )
            segment = self._client.call(
                self._client.segments.CreateSegment, segments.CreateSegmentRequest(segment=draft)
            )
            self._ids[name] = segment.id
            sizes.append((Text(name), self._count(segment.id)))
        everyone = reach.EstimateReachRequest(filter=Filter(datatype="contact", where_json="{}"))
        self._total = self._client.call(self._client.reach.EstimateReach, everyone).count
        self._console.print(bar_chart(f"of {self._total:,} contacts", sizes, self._total))

    def _read(self) -> list[str]:
        self._begin(
            "Does the campaign reach exactly those who were counted?",
            "Counts and members come from the same query. Bob's campaign streams the members and gets each one once.",
        )
        segment_id = self._ids["VIP recent openers"]
        request = membership.StreamMembersRequest(
            audience_id=segment_id, fields=["firstName", "email", "country", "lastEmailOpenedAt"], batch_size=25
        )
        members: list[membership.Member] = []
        total = 0
        for batch in self._client.membership.StreamMembers(request, metadata=self._client.metadata):
            members += batch.members
            total = batch.totals.member_count
        table = Table("name", "email", "country", "last opened", box=None, pad_edge=False, header_style="bold")
        for member in members[:4]:
            row = (member.fields[name] for name in ("firstName", "email", "country", "lastEmailOpenedAt"))
            table.add_row(*(printable(str(value)) for value in row))
        self._console.print(table)
        self._console.print(f"... {max(len(members) - 4, 0):,} more\n")
        count = self._count(segment_id)
        self._conclude(
            f"reach {count}, members streamed {len(members)}, total {total}",
            *(count, len(members), total, len({member.id for member in members})),
        )
        return [str(member.fields["email"]) for member in members[:20]]

    def _compare(self) -> None:
        self._begin(
            "Are these the same people?",
            "Two campaigns to overlapping audiences annoy. One call counts every combination.",
        )
        names = ["VIPs", "Recent openers", "High scores"]
        request = reach.GetOverlapRegionsRequest(audience_ids=[self._ids[name] for name in names])
        response = self._client.call(self._client.reach.GetOverlapRegions, request)
        rows = [
            (
                Text(" + ".join(name for name in names if self._ids[name] in region.audience_ids)),
                region.count,
            )
            for region in response.regions
        ]
        self._console.print(bar_chart("members of exactly these audiences", rows, response.union_count))
        sizes = {size.audience_id: size.size for size in response.sizes}
        for pair in response.pairwise:
            if {pair.audience_id, pair.other_audience_id} == {self._ids["VIPs"], self._ids["High scores"]}:
                share = percent(pair.count, sizes[self._ids["VIPs"]])
                self._console.print(f"\n{share} of the VIPs have a high score: a score above 60 predicts a VIP.")

    def _follow(self) -> None:
        self._begin(
            "Who becomes a VIP?",
            "An automation greets each new VIP once. It watches the segment; meanwhile a colleague tags a contact.",
        )
        request = membership.WatchMembershipRequest(audience_id=self._ids["VIPs"])
        stream = self._client.membership.WatchMembership(
            request, metadata=self._client.metadata, timeout=_WATCH_SECONDS
        )
        next(stream)  # the first message says that the watch has begun
        contacts = self._store.database["contact"]
        chosen = contacts.find_one({"sk": {"$regex": f"^{_ORG}/"}, "state": "active", "data.tags": {"$ne": "vip"}})
        if chosen is None:
            raise click.ClickException("every sample contact is a VIP; this is a defect of the samples")
        contacts.update_one(
            {"pk": chosen["pk"]}, {"$push": {"data.tags": "vip"}, "$set": {"modifydate": datetime.now(UTC)}}
        )
        events = next(batch.events for batch in stream if batch.events)
        stream.cancel()
        for event in events:
            self._console.print(
                f"[green]+ {event.contact_id}[/] entered the segment: [b]welcome, {escape(chosen['name'])}[/]"
            )
        self._conclude(f"contacts tagged 1, events {len(events)}", 1, len(events))

    def _upload(self, emails: list[str]) -> None:
        self._begin(
            "Whom did we meet at the fair?",
            "The sales team has a spreadsheet of addresses in capital letters, one of them unknown. An upload matches"
            " them with contacts, and the list is an audience like any other.",
        )
        stub = self._client.custom_audiences
        draft = custom_audiences.CustomAudience(name="fair visitors", type="file_upload")
        create = custom_audiences.CreateCustomAudienceRequest(custom_audience=draft)
        audience = self._client.call(stub.CreateCustomAudience, create)
        data = "\n".join(["E-Mail", *map(str.upper, emails), "nobody@example.com"]).encode()
        checksum = zlib.crc32(data)
        header = custom_audiences.UploadHeader(
            audience_id=audience.id, upload_id="fair", mode=custom_audiences.UPLOAD_MODE_APPEND
        )
        trailer = custom_audiences.UploadTrailer(size_bytes=len(data), crc32=checksum)
        parts = [
            custom_audiences.UploadMembersRequest(header=header),
            custom_audiences.UploadMembersRequest(chunk=custom_audiences.UploadChunk(data=data, crc32=checksum)),
            custom_audiences.UploadMembersRequest(trailer=trailer),
        ]
        upload = stub.UploadMembers(iter(parts), metadata=self._client.metadata)
        pair = reach.GetOverlapRequest(audience_id=audience.id, other_audience_id=self._ids["VIP recent openers"])
        overlap = self._client.call(self._client.reach.GetOverlap, pair)
        rows = [
            (Text("matched"), upload.matched_row_count),
            (Text("without a contact"), upload.unmatched_row_count),
        ]
        self._console.print(bar_chart(f"{upload.row_count} rows of the file", rows, upload.row_count))
        self._console.print()
        self._conclude(
            f"segment members in the file {len(emails)}, contacts on the list {upload.list_size}, "
            f"overlap with the segment {overlap.count}",
            *(len(emails), upload.matched_row_count, upload.list_size, overlap.size, overlap.count),
        )

    def _protect(self) -> None:
        self._begin(
            "What happens if somebody deletes the segment?",
            "The campaign has registered that it uses the segment. So the service refuses to delete it.",
        )
        segment_id = self._ids["VIP recent openers"]
        use = uses.AudienceUse(audience_id=segment_id, consumer_kind="campaign", consumer_id="spring offer")
        self._client.call(self._client.uses.RegisterUse, uses.RegisterUseRequest(use=use))
        try:
            self._client.call(self._client.segments.DeleteSegment, segments.DeleteSegmentRequest(id=segment_id))
        except grpc.RpcError as error:
            reason = reason_of(error)
            self._console.print(f"[yellow]{reason}[/]: used by 1 campaign, the spring offer")
        else:
            reason = "nothing"
        self._is_consistent &= reason == "AUDIENCE_IN_USE"

    def _explain(self) -> None:
        self._begin(
            "Who bought at least twice?",
            "A filter can count related records, such as orders. The service says in plain words what a filter selects,"
            " and how the database finds it.",
        )
        found = Filter(datatype="contact")
        ParseDict({"datatype": "contact", "where": BUYERS}, found)
        explained = self._client.call(self._client.filters.ExplainFilter, filters.ExplainFilterRequest(filter=found))
        self._console.print(printable(explained.description))
        buyers = self._client.call(self._client.reach.EstimateReach, reach.EstimateReachRequest(filter=found)).count
        vips = ParseDict({"datatype": "contact", "where": {"$and": [{"tags": "vip"}, BUYERS]}}, Filter())
        count = self._client.call(self._client.reach.EstimateReach, reach.EstimateReachRequest(filter=vips)).count
        vip_count = self._count(self._ids["VIPs"])
        self._console.print(
            f"\n[b]{percent(count, vip_count)}[/] of the VIPs bought twice,"
            f" of all contacts {percent(buyers, self._total)}."
        )

    def _profile(self) -> None:
        self._begin(
            "Where do people open emails?",
            "Insights compare an audience with all contacts. An index of 120 means: 20 % more frequent than usual.",
        )
        request = reach.GetInsightsRequest(
            audience_id=self._ids["Recent openers"], dimensions=["city", "score"], max_buckets=6
        )
        for dimension in self._client.call(self._client.reach.GetInsights, request).dimensions:
            self._console.print(dimension_chart(dimension))

    def _count(self, audience_id: str) -> int:
        request = reach.EstimateReachRequest(audience_id=audience_id)
        count: int = self._client.call(self._client.reach.EstimateReach, request).count
        return count


def _print_next_steps(console: Console, *, has_database: bool) -> None:
    steps = [
        ("make run", "serve these contacts, and print a token"),
        ("docs/quick-start.md", "your own first segment, in five minutes"),
        ("docs/how-to/command-line.md", "the same from the command line"),
        ("clients/python/README.md", "the same from Python"),
    ]
    if not has_database:
        steps.append(("AUDIENCE_MONGODB_URI=… make demo", "two more chapters: orders and insights"))
    console.print()
    console.rule("[b]Next", align="left", style="cyan")
    table = Table(box=None, show_header=False, pad_edge=False)
    for step, meaning in steps:
        table.add_row(Text(step, style="bold"), meaning)
    console.print(table)
