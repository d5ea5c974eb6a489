"""What StreamReach promises, and EstimateReach past its budget, on every store."""

import itertools
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import OutOfTime
from audience_service.rpc.workloads import Workload
from audience_service.sample_data import sample_contacts
from tests.conftest import Service
from tests.support.client import Client, Refusal
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

CROWD = 4_100
"""Contacts of an org that is too large to be counted where a sample is asked for."""

FIELDS = ("country", "email", "score", "tags")

MATCH_ALL: dict[str, Any] = {}
LEADS = {"country": "US", "tags": {"$in": ["lead", "mql"]}}
MATCH_NONE = {"country": "Atlantis"}


def contacts(where: dict[str, Any]) -> dict[str, Any]:
    return {"datatype": "contact", "where": where}


@pytest.fixture(scope="module")
def crowd(service: Service) -> Client:
    """A client of an org with many contacts of few fields: the embedded store copies each record that it scans."""
    records = list(sample_contacts("crowd", CROWD))
    for record in records:
        record["data"] = {name: record["data"][name] for name in FIELDS if name in record["data"]}
    service.store.insert(records)
    return service.client("crowd")


@pytest.fixture(scope="module")
def static(crowd: Client) -> str:
    """The static segment of those with a score below 3."""
    source = {"filter": contacts({"score": {"$lt": 3}})}
    return str(crowd.call("CreateSegment", {"segment": {"name": "low", "type": "static"}, "source": source}).id)


def streamed(client: Client, request: dict[str, Any]) -> list[Any]:
    """The messages of a stream that has been seen to keep its promises."""
    messages = list(client.call("StreamReach", request, timeout=50))
    assert [message.exact for message in messages] == [False] * (len(messages) - 1) + [True]
    last = messages[-1]
    assert last.lower_bound == last.count == last.upper_bound
    assert last.scanned_count == last.total_count
    assert last.HasField("sample_profile") == (last.count > 0)
    assert not any(message.HasField("sample_profile") for message in messages[:-1])
    reads = [message.scanned_count for message in messages]
    assert reads == sorted(reads)
    for before, after in itertools.pairwise(messages):
        is_narrower = after.upper_bound - after.lower_bound <= before.upper_bound - before.lower_bound
        assert is_narrower or not before.lower_bound <= last.count <= before.upper_bound, (
            "one that misses may be given up"
        )
    assert all(0 <= message.lower_bound <= message.count <= message.upper_bound <= CROWD for message in messages)
    assert len({message.read_time.ToNanoseconds() for message in messages}) == 1
    return messages


@pytest.mark.parametrize("where", [LEADS, MATCH_NONE, {"state": "archived"}])
def test_a_stream_begins_with_an_estimate_and_ends_with_the_count(crowd: Client, where: dict[str, Any]) -> None:
    messages = streamed(crowd, {"filter": contacts(where)})
    assert len(messages) >= 2
    first, last = messages[0], messages[-1]
    assert first.scanned_count < CROWD == first.total_count
    assert last.count == crowd.count(filter=contacts(where)) == len(crowd.members(filter=contacts(where)))
    assert first.lower_bound <= last.count + 60
    assert first.upper_bound >= last.count - 60, "one in twenty intervals may miss, though not by much"


def test_a_list_and_filters_over_lists_end_with_the_count(crowd: Client, static: str) -> None:
    outside = contacts({"$nor": [{"$inAudience": static}], "country": "US"})
    for request in ({"audienceId": static}, {"filter": outside}):
        last = streamed(crowd, request)[-1]
        assert last.count == crowd.count(**request) == len(crowd.members(**request)) > 0


def test_a_filter_on_related_records_ends_with_the_count(real_service: Service) -> None:
    orders = [{"data": {"contactId": f"contact-{n:04d}", "total": n % 50}} for n in range(0, 1_500, 3)]
    real_service.insert("buyers", [{"id": f"{n:04d}"} for n in range(1_500)])
    real_service.insert("buyers", orders, "order")
    client = real_service.client("buyers")
    on = {"local": "pk", "foreign": "contactId"}
    join = {"datatype": "order", "on": on, "where": {"total": {"$lt": 25}}}
    messages = list(client.call("StreamReach", {"filter": contacts({"$related": join})}))
    assert len(messages) > 1
    assert messages[-1].count == client.count(filter=contacts({"$related": join})) == 250


def test_a_saved_segment_streams_like_its_filter(crowd: Client) -> None:
    made = crowd.create(name="leads", filter=contacts(LEADS))
    last = streamed(crowd, {"audienceId": made.id})[-1]
    assert last.count == crowd.count(filter=contacts(LEADS))


def test_a_call_without_a_deadline_is_answered(client: Client) -> None:
    stream = client.call("StreamReach", {"filter": contacts(MATCH_ALL)}, timeout=None)
    assert [message.exact for message in stream] == [True]
    assert client.call("EstimateReach", {"filter": contacts(MATCH_ALL)}, timeout=None).exact


def test_few_records_come_in_one_exact_message(client: Client, insert: Callable[..., list[str]]) -> None:
    insert([{"data": {"email": "ann@example.com"}}, {"state": "deleted"}])
    [message] = client.call("StreamReach", {"filter": contacts(MATCH_ALL)})
    assert (message.count, message.exact, message.scanned_count) == (1, True, 2)
    assert MessageToDict(message.sample_profile) == {"email": "a***@example.com"}


def test_records_that_have_come_since_are_counted_too(client: Client, insert: Callable[..., list[str]]) -> None:
    for total in (3, 5):
        insert([{} for _ in range(total - client.count(filter=contacts(MATCH_ALL)))])
        assert list(client.call("StreamReach", {"filter": contacts(MATCH_ALL)}))[-1].count == total


def test_a_stream_is_refused_as_an_estimate_is(client: Client, refused: Callable[..., Refusal]) -> None:
    for request, reason in (
        ({}, "INVALID_FIELD"),
        ({"filter": contacts({"a": {"$gtt": 1}})}, "INVALID_FILTER"),
        ({"audienceId": "segment-none"}, "AUDIENCE_NOT_FOUND"),
    ):
        refusals = [refused(lambda r=request, rpc=rpc: client.call(rpc, r)) for rpc in ("StreamReach", "EstimateReach")]
        assert {refusal.info.reason for refusal in refusals} == {reason}
        assert refusals[0].fields == refusals[1].fields


def test_without_a_budget_the_count_is_exact(crowd: Client) -> None:
    reach = crowd.call("EstimateReach", {"filter": contacts(LEADS)})
    assert (reach.exact, reach.lower_bound, reach.upper_bound) == (True, reach.count, reach.count)


@pytest.mark.parametrize("where", [MATCH_ALL, LEADS, MATCH_NONE])
def test_past_the_budget_the_count_is_an_estimate_and_says_so(crowd: Client, where: dict[str, Any]) -> None:
    exact = crowd.count(filter=contacts(where))
    reach = crowd.call("EstimateReach", {"filter": contacts(where), "exactCountTimeout": "0s"})
    assert not reach.exact
    assert reach.lower_bound <= reach.count <= reach.upper_bound
    assert reach.lower_bound - 60 <= exact <= reach.upper_bound + 60, (
        "one in twenty intervals may miss, though not by much"
    )
    assert reach.HasField("sample_profile") == (where is not MATCH_NONE)
    assert "***" in str(reach.sample_profile) or where is MATCH_NONE
    within = crowd.call("EstimateReach", {"filter": contacts(where), "exactCountTimeout": "15s"})
    assert (within.count, within.exact) == (exact, True)


def test_a_list_past_the_budget_is_an_estimate_of_its_rows(crowd: Client, static: str, service: Service) -> None:
    rows = crowd.call("GetSegment", {"id": static}).contact_count
    reach = crowd.call("EstimateReach", {"audienceId": static, "exactCountTimeout": "0s"})
    assert reach.exact, "it is short enough to be counted"
    assert reach.count == crowd.count(audienceId=static) < rows + 1


def test_few_records_are_counted_whatever_the_budget(client: Client, insert: Callable[..., list[str]]) -> None:
    insert([{}, {}])
    reach = client.call("EstimateReach", {"filter": contacts(MATCH_ALL), "exactCountTimeout": "0s"})
    assert (reach.count, reach.exact) == (2, True)


def test_a_budget_below_zero_is_refused(client: Client, refused: Callable[..., Refusal]) -> None:
    refusal = refused(
        lambda: client.call("EstimateReach", {"filter": contacts(MATCH_ALL), "exactCountTimeout": "-0.5s"})
    )
    assert (refusal.info.reason, refusal.fields) == ("INVALID_FIELD", ["exact_count_timeout"])


def test_a_budget_stops_the_count_and_returns_a_sampled_estimate(real_service: Service) -> None:
    long_texts = [{"data": {"text": "a" * 60 + str(n)}} for n in range(4_500)]
    real_service.insert("sluggish", long_texts)
    slow = contacts({"$or": [{"text": {"$regex": f".*a.*b.*c.*={n}"}} for n in range(40)]})
    reach = real_service.client("sluggish").call("EstimateReach", {"filter": slow, "exactCountTimeout": "0.05s"})
    assert not reach.exact
    assert reach.count == reach.lower_bound == 0 < reach.upper_bound


def test_a_call_that_is_cancelled_has_no_time_left(
    crowd: Client, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    deadlines: list[Deadline] = []
    ended = threading.Event()

    def waits(_org: str, _population: Any, deadline: Deadline) -> Any:
        deadlines.append(deadline)
        with pytest.raises(OutOfTime):
            eventually(lambda: deadline.remaining() == 0)
        ended.set()
        deadline.check()

    def counted(org: str, population: Any, deadline: Deadline) -> Any:
        finished.append(deadline)
        return count(org, population, deadline)

    finished: list[Deadline] = []
    count = service.store.members.reach
    monkeypatch.setattr(service.store.members, "reach", counted)
    crowd.count(filter=contacts(MATCH_NONE))
    monkeypatch.setattr(service.store.slices, "key_sample", waits)
    call = crowd.call("StreamReach", {"filter": contacts(MATCH_ALL)})
    eventually(lambda: bool(deadlines))
    assert not deadlines[0].is_cancelled
    call.cancel()
    assert ended.wait(40)
    assert deadlines[0].min_with(5).is_cancelled, "and so has a part of its time"
    assert not finished[0].is_cancelled, "a call that has been answered was not cancelled"


def test_a_stream_is_refused_while_all_slots_are_taken(service: Service, refused: Callable[..., Refusal]) -> None:
    slots = service.app.server.admission.slots[Workload.STREAM]
    eventually(lambda: service.open_stream_count == 0)  # streams of earlier tests may still be ending
    with ExitStack() as stack:
        for number in range(service.settings.max_streams):
            stack.enter_context(slots.acquire(org=str(number), caller=str(number)))
        refusal = refused(lambda: service.client("full").call("StreamReach", {"filter": contacts(MATCH_ALL)}))
    assert refusal.info.reason == "TOO_MANY_STREAMS"
