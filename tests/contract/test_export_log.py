"""What ListExports promises: every call that sends members has a record, on every store."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import grpc
import pytest

from audience_service.domain.core.clock import now
from audience_service.domain.core.context import Caller, Deadline, RequestContext
from audience_service.domain.core.errors import OutOfTime, StoreUnavailable
from audience_service.domain.core.page_tokens import TokenCodec
from audience_service.domain.core.pages import PageRequest
from audience_service.domain.export_log.model import ExportContent, ExportQuery, ExportRecord, ExportState
from audience_service.domain.export_log.service import ExportLog
from audience_service.pb.audience.v1 import audience_service_pb2 as pb
from tests.conftest import Service
from tests.support.client import Client, Refusal
from tests.support.fault_injection import FailAtStep

Refused = Callable[..., Refusal]
EVERYONE = {"datatype": "contact", "where": {}}


@pytest.fixture
def audience(service: Service, client: Client, org: str) -> str:
    """A segment of three contacts."""
    service.insert(org, [{"id": str(n), "data": {"email": f"{n}@example.com"}} for n in range(3)])
    return str(client.create(name="everyone", filter=EVERYONE).id)


def exports(client: Client, **request: Any) -> list[Any]:
    """The exports of a page."""
    return list(client.call("ListExports", request).exports)


def test_a_stream_of_members_is_recorded(client: Client, audience: str) -> None:
    """With the caller, the audience, the fields and the number of rows."""
    list(client.call("StreamMembers", {"audienceId": audience, "fields": ["email"], "purpose": "email"}))
    [record] = exports(client)
    assert (record.rpc, record.subject, list(record.audience_ids)) == ("StreamMembers", "tester", [audience])
    assert (list(record.fields), record.purpose, record.platform, record.has_filter) == (["email"], "email", "", False)
    assert (record.state, record.row_count) == (pb.EXPORT_STATE_COMPLETED, 3)
    assert record.start_time.ToDatetime() <= record.end_time.ToDatetime()
    assert record.request_id


def test_an_export_is_recorded_with_its_platform(client: Client, audience: str) -> None:
    """The fields are those that were sent, also if the request names none."""
    request = {"filter": EVERYONE, "excludeAudienceIds": [], "platform": "tiktok"}
    list(client.call("ExportIdentifiers", request))
    [record] = exports(client)
    assert (record.rpc, record.platform, list(record.fields)) == ("ExportIdentifiers", "tiktok", ["email", "phone"])
    assert (record.has_filter, list(record.audience_ids), record.row_count) == (True, [], 3)


def test_a_call_that_sends_no_row_has_no_record(client: Client, refused: Refused) -> None:
    """Neither an empty audience nor a refused request was sent to anybody."""
    nobody = {"datatype": "contact", "where": {"email": "nobody@example.com"}}
    list(client.call("StreamMembers", {"filter": nobody}))
    refused(lambda: list(client.call("ExportIdentifiers", {"filter": EVERYONE, "platform": "myspace"})))
    assert exports(client) == []


def test_the_hand_outs_of_a_sync_are_recorded(real_service: Service) -> None:
    """With the sync and its audiences. A stream without changes is none."""
    org = f"handout{next(real_service.names)}x"
    client = real_service.client(org)
    real_service.insert(org, [{"id": "a", "data": {"email": "a@example.com"}}])
    audience = client.create(name="everyone", filter=EVERYONE).id
    written = {"name": "list", "audienceIds": [audience], "platform": "meta", "fields": ["email"]}
    sync = client.call("CreateSync", {"sync": written}).id
    for number in (1, 2):
        list(client.call("StreamSyncChanges", {"id": sync, "workerId": "w"}))
        if number == 1:
            client.call("AcknowledgeSyncBatch", {"id": sync, "batchNumber": 1})
    [record] = exports(client)
    assert (record.rpc, record.sync_id, record.platform) == ("StreamSyncChanges", sync, "meta")
    assert (list(record.audience_ids), list(record.fields), record.row_count) == ([audience], ["email"], 1)


def test_exports_are_listed_by_audience_platform_and_time(client: Client, audience: str, refused: Refused) -> None:
    """Pages are newest first and continue by token; start_time is included and end_time is not."""
    other = client.create(name="other", filter=EVERYONE).id
    for found in (audience, other, audience):
        list(client.call("StreamMembers", {"audienceId": found}))
    list(client.call("ExportIdentifiers", {"audienceId": other, "platform": "meta"}))
    newest, *older = exports(client)
    assert (newest.platform, len(older)) == ("meta", 3)
    first = client.call("ListExports", {"pageSize": 1, "audienceId": audience})
    second = client.call("ListExports", {"pageSize": 1, "audienceId": audience, "pageToken": first.next_page_token})
    assert [record.id for page in (first, second) for record in page.exports] == [older[0].id, older[2].id]
    assert second.next_page_token == ""
    assert exports(client, platform="meta") == [newest]
    at = newest.start_time.ToJsonString()
    assert newest in exports(client, startTime=at)
    assert newest not in exports(client, endTime=at)
    assert refused(lambda: exports(client, startTime=at, endTime=at)).fields == ["end_time"]


def test_another_org_sees_no_export(service: Service, client: Client, org: str, audience: str) -> None:
    """Also not with the id of the audience."""
    list(client.call("StreamMembers", {"audienceId": audience}))
    assert exports(service.client(f"{org}2"), audienceId=audience) == []


def test_listing_needs_the_scope_of_exports(service: Service, org: str) -> None:
    """A reader of definitions does not learn who was sent members."""
    reader = service.client(org, scopes=("audiences.read",))
    with pytest.raises(grpc.RpcError) as caught:
        reader.call("ListExports", {})
    assert Refusal(caught.value).info.reason == "MISSING_SCOPE"


class Recorder:
    """An export log on a store, and what a stream of three rows leaves in it."""

    def __init__(self, service: Service, org: str) -> None:
        self.records: Any = service.store.export_log
        self.tokens = TokenCodec(b"key")
        self.ctx = RequestContext(Caller("ann", org, frozenset()), Deadline(None), "r1")

    def record(self, failure: Exception | None = None) -> Any:
        """A recorded stream of three rows, one each, that may fail after the second."""

        def rows() -> Any:
            yield from (1, 1)
            if failure:
                raise failure
            yield 1

        log = ExportLog(self.records, self.tokens, timedelta(days=1))
        return log.record(self.ctx, ExportContent("StreamMembers"), rows(), lambda row: row)

    def stored(self) -> list[ExportRecord]:
        """The records."""
        log = ExportLog(self.records, self.tokens, timedelta(days=1))
        return list(log.list(self.ctx, ExportQuery(), PageRequest(10)).items)


@pytest.fixture
def recorder(service: Service, org: str) -> Recorder:
    """A recorder of the test's org."""
    return Recorder(service, org)


def test_the_record_precedes_the_rows(recorder: Recorder) -> None:
    """If it cannot be stored, nothing is sent."""
    stream = recorder.record()
    assert next(stream) == 1
    [record] = recorder.stored()
    assert (record.state, record.ended_at, record.row_count) == (ExportState.SENDING, None, 0)
    assert list(stream) == [1, 1]
    assert [(record.state, record.row_count) for record in recorder.stored()] == [(ExportState.COMPLETED, 3)]

    def fail() -> None:
        raise StoreUnavailable("down")

    recorder.records = FailAtStep(recorder.records, "insert", before=fail)
    with pytest.raises(StoreUnavailable):
        next(recorder.record())
    assert len(recorder.stored()) == 1


def test_a_record_says_how_the_call_ended(recorder: Recorder) -> None:
    """Rows that the client did not take do not count."""
    with pytest.raises(OutOfTime):
        list(recorder.record(OutOfTime("too late")))
    [failed] = recorder.stored()
    assert (failed.state, failed.reason, failed.row_count) == (ExportState.FAILED, "OUT_OF_TIME", 2)
    cancelled = recorder.record()
    next(cancelled)
    next(cancelled)
    cancelled.close()
    [newest] = [record for record in recorder.stored() if record.id != failed.id]
    assert (newest.state, newest.reason, newest.row_count) == (ExportState.CANCELLED, "", 1)


def test_records_expire(service: Service, recorder: Recorder, org: str) -> None:
    """The database deletes them after the retention time."""
    before = now()
    list(recorder.record())
    [stored] = service.store.database["audience_export"].find({"sk": {"$regex": f"^{org}/"}})
    assert before + timedelta(days=1) <= stored["expire_at"] <= now() + timedelta(days=1)


def test_an_erasure_rewrites_a_caller_that_is_the_person(service: Service, client: Client, org: str) -> None:
    """An employee can be a contact too."""
    service.insert(org, [{"id": "e", "data": {"email": "ann@example.com"}}])
    list(service.client(org, subject="ann@example.com").call("StreamMembers", {"filter": EVERYONE}))
    client.call("EraseContact", {"email": "ann@example.com"})
    [record] = exports(client)
    assert record.subject == "(erased)"
