"""The rows of the table. A new RPC needs a row here and a reference implementation in reference.py."""

import itertools
import json
import random
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from typing import Any

import grpc
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from audience_service.cli.token import mint
from audience_service.domain.filters import Filter, FilterCompiler
from audience_service.domain.insights.dimensions import DIMENSIONS
from audience_service.pb.audience.v1 import membership_service_pb2 as membership
from audience_service.pb.audience.v1 import reach_service_pb2 as reach
from audience_service.pb.audience.v1 import resources_pb2 as resources
from audience_service.pb.audience.v1 import segment_service_pb2 as segments
from audience_service.settings import Settings
from bench import reference
from bench.dataset import LARGE
from bench.measure import Row
from bench.processes import KEY, Server, bare_server
from bench.snapshots import snapshot_rows

FIELDS = ["email", "country", "tags", "score", "lastEmailOpenedAt"]
_BUCKETS = 100
_CHECKED_COUNT = 1_000
_COUNTED_DIMENSIONS = ("country", "region", "city", "gender", "language", "company", "job", "lifecycleStage", "source",
            "lastOpened", "lastClicked", "created", "ageBand", "score", "tags")  # fmt: skip
"""The dimensions in the reference's order."""
EVERYONE: dict[str, Any] = {}
# The filters of the platform's page.
LEADS = {"country": "US", "tags": {"$in": ["lead", "mql"]}}
OPENERS = {"$and": [{"tags": "vip"}, {"lastEmailOpenedAt": {"$gte": "2026-03-25T00:00:00Z"}}]}

_LEADS_BY_HAND = {"data.country": "US", "data.tags": {"$in": ["lead", "mql"]}}
_OPENERS_BY_HAND = {"data.tags": "vip", "data.lastEmailOpenedAt": {"$gte": datetime(2026, 3, 25, tzinfo=UTC)}}


class Client:
    """Calls the service as an org. It does not decode stream messages, since that is not the server's work."""

    def __init__(self, channel: grpc.Channel, org: str) -> None:
        self._channel = channel
        settings = Settings(jwt_key=KEY)
        self._metadata = (("authorization", f"Bearer {mint(settings, org=org, subject='bench')}"), ("orgid", org))
        self._calls: dict[str, Any] = {}

    def unary(self, path: str, request: Message, response_type: type[Message], timeout: float | None = None) -> Any:
        """The response of an RPC."""
        if path not in self._calls:
            self._calls[path] = self._channel.unary_unary(
                f"/audience.v1.{path}",
                request_serializer=type(request).SerializeToString,
                response_deserializer=response_type.FromString,
            )
        return self._calls[path](request, metadata=self._metadata, timeout=timeout)

    def last(self, path: str, request: Message) -> bytes:
        """The last message of a stream."""
        last = b""
        for message in self.stream(path, request):
            last = message
        return last

    def stream(self, path: str, request: Message) -> Iterator[bytes]:
        """The messages of a stream."""
        call: Any = self._channel.unary_stream(
            f"/audience.v1.{path}", request_serializer=type(request).SerializeToString
        )
        yield from call(request, metadata=self._metadata)

    def members(self, where: dict[str, Any], fields: list[str], *, bson: bool = False) -> int:
        """The number of members in a stream, from its last message."""
        encoding = membership.MEMBER_ENCODING_BSON if bson else membership.MEMBER_ENCODING_STRUCT
        request = membership.StreamMembersRequest(filter=filter_message(where), fields=fields, encoding=encoding)
        last = self.last("MembershipService/StreamMembers", request)
        return membership.StreamMembersResponse.FromString(last).totals.member_count

    def reach_stream(self, where: dict[str, Any], *, first: bool) -> reach.StreamReachResponse:
        """The first estimate of a stream, which is then cancelled, or the count at its end."""
        call: Any = self._channel.unary_stream(
            "/audience.v1.ReachService/StreamReach",
            request_serializer=reach.StreamReachRequest.SerializeToString,
        )
        stream = call(reach.StreamReachRequest(filter=filter_message(where)), metadata=self._metadata)
        message = next(stream)
        if first:
            stream.cancel()
        else:
            for message in stream:  # noqa: B007 - only the last message is needed
                pass
        return reach.StreamReachResponse.FromString(message)


def rows(server: Server, database: reference.Contacts, stack: ExitStack) -> Iterator[Row]:
    """All rows, for the large org of a database. The stack closes their channels and servers."""
    client = Client(stack.enter_context(grpc.insecure_channel(server.address)), LARGE)
    yield _compile_row()
    yield from _segment_rows(client, database, stack)
    filters: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
        ("everyone", EVERYONE, {}),
        ("country and tags", LEADS, _LEADS_BY_HAND),
        ("tag and recent date", OPENERS, _OPENERS_BY_HAND),
    )
    for name, where, by_hand in filters:
        yield Row(
            f"EstimateReach, {name}",
            "count_documents and find_one",
            partial(_reach, client, where),
            partial(reference.reach, database, LARGE, by_hand),
        )
    for name, where, by_hand in filters:
        yield Row(
            f"StreamReach, {name}, first estimate",
            "count_documents and find_one",
            partial(_first_estimate, client, where),
            partial(_has_members, database, by_hand),
        )
        yield Row(
            f"StreamReach, {name}, to the end",
            "count_documents and find_one",
            partial(_last_count, client, where),
            partial(reference.reach, database, LARGE, by_hand),
        )
    outside, listed = _outside_list(client, database)
    yield Row(
        f"EstimateReach, not on a list of {listed:,}",
        "the list read, $nor and find_one",
        partial(_reach, client, outside),
        partial(reference.reach_outside_list, database, LARGE, outside["$nor"][0]["$inAudience"]),
    )
    yield from _overlap_rows(client, database)
    yield from _insight_rows(client, database)
    yield _check_row(client, database)
    yield from snapshot_rows(client, database, filter_message(EVERYONE), filter_message({"score": {"$gte": 10}}))
    yield Row(
        "StreamMembers, ids",
        "find_raw_batches, undecoded",
        lambda: client.members(EVERYONE, []),
        lambda: reference.members_raw(database, LARGE, {}),
    )
    yield Row(
        "StreamMembers, five fields",
        "find, as Python values",
        lambda: client.members(EVERYONE, FIELDS),
        lambda: reference.values(database, LARGE, {}, FIELDS),
    )
    for name, bson in (("", False), (", BSON", True)):
        yield Row(
            f"StreamMembers, five fields{name}",
            "find_raw_batches, undecoded",
            partial(client.members, EVERYONE, FIELDS, bson=bson),
            partial(reference.members_raw, database, LARGE, {}, FIELDS),
        )


def _overlap_rows(client: Client, database: reference.Contacts) -> Iterator[Row]:
    """Two audiences compared with two references, and four audiences that overlap.

    The filters have no dates: EstimateReach measures their cost, and an overlap has each filter twice.
    """
    audiences: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
        (LEADS, _LEADS_BY_HAND),
        ({"score": {"$gte": 50}}, {"data.score": {"$gte": 50}}),
        ({"tags": "vip"}, {"data.tags": "vip"}),
        ({"country": {"$in": ["US", "GB"]}}, {"data.country": {"$in": ["US", "GB"]}}),
    )
    by_hand = [condition for _, condition in audiences]
    ids = [save_segment(client, f"overlap {number}", where).id for number, (where, _) in enumerate(audiences)]
    pair = reach.GetOverlapRequest(audience_id=ids[0], other_audience_id=ids[1])
    regions_request = reach.GetOverlapRegionsRequest(audience_ids=ids)

    def overlap() -> tuple[int, int, int]:
        answer = client.unary("ReachService/GetOverlap", pair, reach.GetOverlapResponse)
        return answer.count, answer.size, answer.other_size

    def regions() -> dict[int, int]:
        answer = client.unary("ReachService/GetOverlapRegions", regions_request, reach.GetOverlapRegionsResponse)
        return {sum(1 << ids.index(found) for found in one.audience_ids): one.count for one in answer.regions}

    for reference_name, reference_overlap in (
        ("three count_documents", reference.overlap_by_counts),
        ("one $facet", reference.overlap),
    ):
        yield Row(
            "GetOverlap, two filters",
            reference_name,
            overlap,
            partial(reference_overlap, database, LARGE, *by_hand[:2]),
        )
    yield Row(
        "GetOverlapRegions, four filters",
        "$unionWith and $group",
        regions,
        partial(reference.regions, database, LARGE, by_hand),
    )


def _compile_row() -> Row:
    """The filter compiler in this process, with ten groups of five conditions of the common kinds."""
    ago = {"$dateSubtract": {"startDate": "$$NOW", "unit": "day", "amount": 30}}
    groups = [
        [LEADS, {"score": {"$gte": n}}, {"email": {"$regex": "^ann"}}, {"at": {"$gte": ago if n % 2 else "2026-03-25"}}]
        for n in range(10)
    ]
    where = {"$and": [condition for group in groups for condition in group]}
    written, compiler = json.dumps(where), FilterCompiler(["contact"])
    return Row(
        "compiling a filter of 50 conditions",
        "reading its JSON text",
        lambda: bool(compiler.compile(Filter("contact", where)).match),
        lambda: bool(json.loads(written)),
    )


def _outside_list(client: Client, database: reference.Contacts) -> tuple[dict[str, Any], int]:
    """A filter for the contacts outside a list of two sevenths of the org, 200,000 of 700,000; and the list's size."""
    org_match = reference.in_org(LARGE, {})
    list_size = database["contact"].count_documents({"sk": org_match["sk"]}) * 2 // 7
    last = database["contact"].find_one(org_match, {"sk": 1}, sort=[("sk", 1)], skip=list_size - 1) or {}
    draft = resources.Segment(name="list", type="static", filter=filter_message({"sk": {"$lte": last["sk"]}}))
    create = segments.CreateSegmentRequest(segment=draft)
    created = client.unary("SegmentService/CreateSegment", create, resources.Segment, timeout=600)
    return {"$nor": [{"$inAudience": created.id}]}, created.contact_count


def _segment_rows(client: Client, database: reference.Contacts, stack: ExitStack) -> Iterator[Row]:
    created = save_segment(client, "bench", OPENERS)
    request = segments.GetSegmentRequest(id=created.id)

    def get() -> str:
        return str(client.unary("SegmentService/GetSegment", request, resources.Segment).id)

    bare = stack.enter_context(bare_server(created.SerializeToString()))
    channel = stack.enter_context(grpc.insecure_channel(bare.address))
    call: Any = channel.unary_unary("/bare.Bare/Call", response_deserializer=resources.Segment.FromString)
    yield Row("GetSegment", "a bare grpcio call, no database", get, lambda: str(call(request.SerializeToString()).id))
    yield Row("GetSegment", "find_one", get, lambda: str((reference.segment(database, LARGE, created.id) or {})["pk"]))


def save_segment(client: Client, name: str, where: dict[str, Any]) -> Any:
    """A new dynamic segment."""
    create = segments.CreateSegmentRequest(segment=resources.Segment(name=name, filter=filter_message(where)))
    return client.unary("SegmentService/CreateSegment", create, resources.Segment)


def _check_row(client: Client, database: reference.Contacts) -> Row:
    """A thousand evenly spaced contacts of the org, and ten filters."""
    scores = range(5, 100, 10)
    ids = [save_segment(client, f"score {score}", {"score": {"$gte": score}}).id for score in scores]
    by_hand = [{"data.score": {"$gte": score}} for score in scores]
    step = max(1, database["contact"].count_documents(reference.in_org(LARGE, {})) // _CHECKED_COUNT)
    found = database["contact"].find(reference.in_org(LARGE, {}), {"pk": 1}, sort=[("sk", 1)])
    contacts = [record["pk"] for record in itertools.islice(found, 0, step * _CHECKED_COUNT, step)]
    request = membership.CheckMembershipRequest(audience_ids=ids, contact_ids=contacts)

    def check() -> dict[str, list[int]]:
        answer = client.unary("MembershipService/CheckMembership", request, membership.CheckMembershipResponse)
        return {one.contact_id: [ids.index(name) for name in one.audience_ids] for one in answer.memberships}

    return Row(
        "CheckMembership, 1,000 contacts, 10 audiences",
        "ten finds by $in of pk",
        check,
        lambda: reference.memberships(database, LARGE, by_hand, contacts),
    )


def _insight_rows(client: Client, database: reference.Contacts) -> Iterator[Row]:
    """All dimensions of a filter's members, with a cached and with an uncached baseline."""
    draft = resources.Segment(name="leads", filter=filter_message(LEADS))
    create = segments.CreateSegmentRequest(segment=draft)
    created = client.unary("SegmentService/CreateSegment", create, resources.Segment)

    def counts(*, is_cold: bool) -> list[reference.Counts]:
        # The cache has no baseline for dimensions in another order.
        dimensions = random.sample(list(DIMENSIONS), len(DIMENSIONS)) if is_cold else list(DIMENSIONS)
        request = reach.GetInsightsRequest(audience_id=created.id, dimensions=dimensions, max_buckets=_BUCKETS)
        answer = client.unary("ReachService/GetInsights", request, reach.GetInsightsResponse, timeout=600)
        found = {dimension.name: dimension.buckets for dimension in answer.dimensions}
        return [[sorted(b.count for b in found[name] if b.count and b.kind != "other") for name in _COUNTED_DIMENSIONS]]

    def by_hand(*, is_cold: bool) -> list[reference.Counts]:
        groups = [_LEADS_BY_HAND, *([{}] if is_cold else [])]
        return reference.insights(database, LARGE, groups, datetime.now(UTC), _BUCKETS)[:1]

    warm, cold = partial(counts, is_cold=False), partial(counts, is_cold=True)
    yield Row("GetInsights, 15 dimensions", "$facet of the members", warm, partial(by_hand, is_cold=False))
    yield Row("GetInsights, no baseline kept", "$facet of members and org", cold, partial(by_hand, is_cold=True))


def _reach(client: Client, where: dict[str, Any]) -> int:
    request = reach.EstimateReachRequest(filter=filter_message(where))
    return int(client.unary("ReachService/EstimateReach", request, reach.EstimateReachResponse).count)


def _first_estimate(client: Client, where: dict[str, Any]) -> bool:
    """Whether the first estimate is above 0. In this alone it must agree with the reference."""
    return client.reach_stream(where, first=True).count > 0


def _has_members(database: reference.Contacts, by_hand: dict[str, Any]) -> bool:
    return reference.reach(database, LARGE, by_hand) > 0


def _last_count(client: Client, where: dict[str, Any]) -> int:
    return int(client.reach_stream(where, first=False).count)


def filter_message(where: dict[str, Any]) -> resources.Filter:
    """The message of a filter on contacts."""
    return ParseDict({"datatype": "contact", "where": where}, resources.Filter())
