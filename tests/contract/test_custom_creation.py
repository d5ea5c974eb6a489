"""Custom audiences that are created and refreshed in the background, and what happens to them meanwhile."""

import dataclasses
import re
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from audience_service.domain.audiences.references import AudienceUse
from audience_service.domain.audiences.service import AudienceUses, RecordFinder
from audience_service.domain.core.clock import now
from audience_service.domain.core.context import Caller, Deadline, RequestContext
from audience_service.domain.core.errors import (
    AudienceInUse,
    AudienceNotFound,
    NameTaken,
    OutOfTime,
    RequestIdReused,
    StaleVersion,
)
from audience_service.domain.core.idempotency import CreationState, new_list_version_id
from audience_service.domain.core.jobs import STOPPED, JobLimits, JobRunner, Report
from audience_service.domain.core.lease import Lease
from audience_service.domain.core.page_tokens import TokenCodec
from audience_service.domain.custom_audiences.deletion import CustomAudienceDeleter
from audience_service.domain.custom_audiences.errors import SeedTooSmall, TooManyLookalikes
from audience_service.domain.custom_audiences.model import (
    CustomAudience,
    CustomAudienceDraft,
    CustomType,
    LookalikeSpec,
    Work,
    WorkKind,
)
from audience_service.domain.custom_audiences.repository import Refresher
from audience_service.domain.custom_audiences.service import CustomAudiences
from audience_service.mongo.custom_audiences.documents import INTERRUPTED
from audience_service.pb.audience.v1.custom_audience_service_pb2_grpc import CustomAudienceServiceStub
from audience_service.pb.audience.v1.resources_pb2 import (
    CREATION_STATE_CREATING,
    CREATION_STATE_FAILED,
    CREATION_STATE_READY,
)
from tests.conftest import Service
from tests.support.client import Client, Refusal
from tests.support.fault_injection import FailAtStep
from tests.support.lists import NO_DEADLINE, rows_of, write_rows
from tests.support.waiting import eventually

Insert = Callable[..., list[str]]
Refused = Callable[..., Refusal]

DRAFT = CustomAudienceDraft("like", "lookalike", spec=LookalikeSpec("segment-x", share=0.1))
CREATING, READY, FAILED = CreationState


class Cases:
    """The use cases on repositories that may be replaced, with lookalikes whose list consists of `ids`.

    `step` is called by the job of a lookalike before it writes the list, with the deadline and the report of the job.
    """

    def __init__(self, service: Service, org: str, *, limits: JobLimits | None = None, **replaced: Any) -> None:
        self.store, self.org = service.store, org
        self.ctx = RequestContext(Caller("racer", org, frozenset()), NO_DEADLINE)
        custom_audiences, uses = (
            replaced.get("custom_audiences", self.store.custom_audiences),
            replaced.get("uses", self.store.uses),
        )
        self.step: Callable[[Deadline, Report], None] = lambda *_: None
        self.ids: list[str] = []
        self.runner = JobRunner("test", limits or JobLimits(), TooManyLookalikes.of)
        like = CustomType.LOOKALIKE
        plans = {like: lambda _, drafted: dataclasses.replace(drafted, datatype="contact")}
        refreshers = {like: Refresher(lambda *_: None, self._refresh, self.runner, creates=True)}
        self.custom_audiences = CustomAudiences(
            custom_audiences, self.store.lists, plans, refreshers, TokenCodec(b"key")
        )
        self.deletion = CustomAudienceDeleter(custom_audiences, self.custom_audiences, uses)
        finders = {
            "segment-": RecordFinder(self.store.segments.get, self.store.segments.find),
            "custom-": RecordFinder(custom_audiences.get, custom_audiences.get),
        }
        self.uses = AudienceUses(uses, finders)

    def create(self, request_id: str = "", draft: CustomAudienceDraft = DRAFT) -> CustomAudience:
        """A lookalike as the call returns it."""
        return self.custom_audiences.create(self.ctx, draft, request_id, validate_only=False)

    def created(self, request_id: str = "") -> CustomAudience:
        """A lookalike whose creation has ended."""
        return self.settled(self.create(request_id).id)

    def get(self, audience_id: str) -> CustomAudience:
        """An audience as it is now."""
        return self.custom_audiences.get(self.ctx, audience_id)

    def settled(self, audience_id: str) -> CustomAudience:
        """An audience after its work has ended."""
        eventually(lambda: not self.get(audience_id).is_working)
        return self.get(audience_id)

    def refreshed(self, audience_id: str) -> CustomAudience:
        """An audience after a refresh has ended."""
        self.custom_audiences.refresh(self.ctx, audience_id)
        return self.settled(audience_id)

    def delete(self, audience_id: str, version: int | None = None) -> None:
        """Delete without force."""
        self.deletion.delete(self.ctx, audience_id, version, force=False)

    def register(self, audience_id: str) -> None:
        """Register a use."""
        self.uses.register(self.ctx, AudienceUse(audience_id, "campaign", "racing"))

    def _refresh(self, ctx: RequestContext, audience: CustomAudience, report: Report) -> CustomAudience:
        list_version_id = new_list_version_id(audience.id)
        self.store.custom_audiences.reserve(self.org, audience.id, list_version_id, now(), NO_DEADLINE)
        write_rows(self.store, self.org, list_version_id, self.ids)
        self.step(ctx.deadline, report)
        self.store.custom_audiences.reserve(
            self.org, audience.id, list_version_id, datetime(2100, 1, 1, tzinfo=UTC), NO_DEADLINE
        )
        return self.store.custom_audiences.publish(
            self.org, audience, list_version_id, {"model": 1}, ctx.deadline, ends_work=audience.is_working
        )


class Gate:
    """A step of a job that waits until it is opened or its deadline is cancelled."""

    def __init__(self) -> None:
        self.reached, self.opened, self.cancelled = threading.Event(), threading.Event(), threading.Event()

    def __call__(self, deadline: Deadline, _: Report) -> None:
        """Wait."""
        self.reached.set()
        while not self.opened.wait(0.005):
            try:
                deadline.check()
            except OutOfTime:
                self.cancelled.set()
                raise


MakeCases = Callable[..., Cases]


@pytest.fixture
def make_cases(service: Service, org: str) -> Iterator[MakeCases]:
    """Make use cases on the store, whose jobs end with the test."""
    made: list[Cases] = []

    def make(**replaced: Any) -> Cases:
        made.append(Cases(service, org, **replaced))
        return made[-1]

    yield make
    for each in made:
        each.runner.close()


@pytest.fixture
def cases(make_cases: MakeCases) -> Cases:
    """The use cases on the store as it is."""
    return make_cases()


@pytest.fixture
def gate(cases: Cases) -> Iterator[Gate]:
    """The gate that jobs of `cases` wait at."""
    cases.step = gate = Gate()
    yield gate
    gate.opened.set()


def too_small(*_: Any) -> None:
    """Fail as a lookalike does."""
    raise SeedTooSmall("too few")


def store_lookalike(
    service: Service, org: str, state: CreationState, lease_seconds: float = 60, error: str = ""
) -> CustomAudience:
    """A lookalike whose creation is in this state; a lease below 0 has expired."""
    timestamp = now()
    ended = None if state is CREATING else timestamp
    work = Work(WorkKind.CREATION, 1, timestamp, state, 0, error, ended)
    spec = LookalikeSpec("segment-x", share=0.1)
    like = CustomType.LOOKALIKE
    made = CustomAudience(
        f"custom-{state.lower()}",
        f"a {state} one",
        "",
        like,
        "contact",
        spec,
        "active",
        0,
        timestamp,
        timestamp,
        work=work,
    )
    service.store.custom_audiences.insert(
        org, made, None, NO_DEADLINE, Lease("dead", timestamp + timedelta(seconds=lease_seconds))
    )
    return made


def test_a_lookalike_is_returned_while_it_is_creating_and_becomes_ready(
    cases: Cases, gate: Gate, client: Client, insert: Insert
) -> None:
    """The call returns without waiting, version 0 stays, and the list appears when the audience becomes READY."""
    cases.ids = insert([{}, {}])
    made = cases.create()
    assert (made.state, made.version, made.creation_state, made.contact_count) == ("active", 0, CREATING, 0)
    assert gate.reached.wait(40)
    assert cases.get(made.id).creation_state is CREATING
    assert client.call("ListCustomAudiences").custom_audiences[0].creation_state == CREATION_STATE_CREATING
    gate.opened.set()
    ready = cases.settled(made.id)
    assert (ready.creation_state, ready.version, ready.contact_count) == (READY, 0, 2)
    assert client.count(audienceId=made.id) == 2
    shown = client.call("GetCustomAudience", {"id": made.id})
    assert (shown.creation_state, shown.progress, shown.error) == (CREATION_STATE_READY, 100, "")
    assert not shown.HasField("latest_refresh")


def test_a_refresh_keeps_the_old_list_readable_until_the_new_one_is_published(
    cases: Cases, client: Client, insert: Insert
) -> None:
    """creation_state stays READY, and latest_refresh shows the refresh from start to end."""
    cases.ids = insert([{}, {}])
    made = cases.created()
    cases.ids, gate = insert([{}]), Gate()
    cases.step = gate
    running = cases.custom_audiences.refresh(cases.ctx, made.id)
    assert (running.creation_state, running.contact_count, running.version) == (READY, 2, 0)
    assert gate.reached.wait(40)
    shown = client.call("GetCustomAudience", {"id": made.id})
    assert (shown.creation_state, shown.progress) == (CREATION_STATE_READY, 100)
    assert (shown.latest_refresh.state, shown.latest_refresh.HasField("end_time")) == (CREATION_STATE_CREATING, False)
    assert client.count(audienceId=made.id) == 2
    gate.opened.set()
    again = cases.settled(made.id)
    assert (again.version, again.contact_count, again.publication) == (1, 1, {"model": 1})
    assert again.list_version_id != made.list_version_id
    shown = client.call("GetCustomAudience", {"id": made.id}).latest_refresh
    assert (shown.state, shown.progress, shown.error) == (CREATION_STATE_READY, 100, "")
    assert shown.end_time.ToDatetime() >= shown.start_time.ToDatetime()


def test_a_refresh_that_fails_keeps_the_list_and_shows_the_error(cases: Cases, client: Client, insert: Insert) -> None:
    """The audience stays READY, and latest_refresh is FAILED."""
    cases.ids = insert([{}, {}])
    made = cases.created()
    cases.step = too_small
    failed = cases.refreshed(made.id)
    assert (failed.creation_state, failed.list_version_id, failed.version) == (READY, made.list_version_id, 0)
    shown = client.call("GetCustomAudience", {"id": made.id})
    assert (shown.error, shown.latest_refresh.error) == ("", "SEED_TOO_SMALL: too few")
    assert shown.latest_refresh.state == CREATION_STATE_FAILED
    assert client.count(audienceId=made.id) == 2
    cases.step = lambda *_: None
    assert cases.refreshed(made.id).version == 1


def test_a_creation_that_fails_keeps_its_name_and_none_of_its_rows(
    service: Service, cases: Cases, client: Client, insert: Insert
) -> None:
    """FAILED shows the reason; a refresh starts the creation again; the rows of the first attempt are swept."""
    cases.ids, cases.step = insert([{}]), too_small
    made = cases.created("r")
    assert (made.creation_state, made.list_version_id) == (FAILED, "")
    shown = client.call("GetCustomAudience", {"id": made.id})
    assert (shown.creation_state, shown.error) == (CREATION_STATE_FAILED, "SEED_TOO_SMALL: too few")
    with pytest.raises(NameTaken):
        cases.create()
    service.store.custom_audience_sweeper.sweep(now() + timedelta(minutes=1))
    assert rows_of(service.store, made.id) == set()
    cases.step = lambda *_: None
    again = cases.refreshed(made.id)
    assert (again.id, again.creation_state, again.version, again.contact_count) == (made.id, READY, 0, 1)
    assert client.call("GetCustomAudience", {"id": made.id}).error == ""


def test_a_failed_lookalike_can_be_deleted_which_releases_its_name(cases: Cases) -> None:
    """Deletion is the other way out of FAILED."""
    cases.step = too_small
    cases.delete(cases.created().id)
    cases.step = lambda *_: None
    assert cases.created().creation_state is READY


def test_a_repeated_request_returns_the_audience_in_its_current_state(cases: Cases, gate: Gate) -> None:
    """While it is CREATING, and after, the same request returns the same audience without waiting."""
    made = cases.create("r")
    assert gate.reached.wait(40)
    again = cases.create("r")
    assert (again.id, again.creation_state) == (made.id, CREATING)
    with pytest.raises(RequestIdReused):
        cases.create("r", dataclasses.replace(DRAFT, name="other"))
    with pytest.raises(NameTaken):
        cases.create()
    gate.opened.set()
    cases.settled(made.id)
    assert cases.create("r").creation_state is READY


def test_the_client_of_the_docs_waits_until_a_lookalike_is_ready_or_failed(cases: Cases, client: Client) -> None:
    """The example polls, returns the READY audience, and raises the error of a FAILED one."""
    page = Path(__file__).parents[2] / "docs/reference/custom-audiences.md"
    [code] = [block for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.S) if "def created" in block]
    names: dict[str, Any] = {}
    exec(compile(code, str(page), "exec"), names)  # noqa: S102 - the code of the page
    cases.step = waiting = Gate()
    names["time"] = SimpleNamespace(sleep=lambda _: waiting.opened.set())
    stub = CustomAudienceServiceStub(client.channel)
    made = names["created"](stub, client.metadata, cases.create().id)
    assert made.creation_state == CREATION_STATE_READY
    cases.step = too_small
    failed = cases.create(draft=dataclasses.replace(DRAFT, name="other"))
    with pytest.raises(RuntimeError, match="SEED_TOO_SMALL"):
        names["created"](stub, client.metadata, failed.id)


def test_progress_is_shown_and_never_decreases(cases: Cases) -> None:
    """Get returns the highest progress reported so far."""
    resume = [threading.Event() for _ in range(2)]

    def step(_: Deadline, report: Report) -> None:
        report(40)
        assert resume[0].wait(40)
        report(20)
        assert resume[1].wait(40)

    cases.step = step
    made = cases.create()

    def progress() -> int:
        work = cases.get(made.id).work
        return work.progress if work else -1

    eventually(lambda: progress() == 40)
    resume[0].set()
    assert progress() == 40
    resume[1].set()
    cases.settled(made.id)
    assert progress() == 100


def test_a_refresh_while_one_is_running_changes_nothing(cases: Cases, insert: Insert) -> None:
    """The second call returns the audience, and one list is published."""
    cases.ids = insert([{}])
    made = cases.created()
    cases.step = gate = Gate()
    first = cases.custom_audiences.refresh(cases.ctx, made.id)
    second = cases.custom_audiences.refresh(cases.ctx, made.id)
    assert first.work is not None
    assert second.work is not None
    assert second.work.attempt == first.work.attempt
    gate.opened.set()
    assert cases.settled(made.id).version == 1


def test_a_lookalike_above_the_limit_is_refused_and_not_stored(make_cases: MakeCases) -> None:
    """TOO_MANY_LOOKALIKES comes from the call, and the name stays free."""
    cases = make_cases(limits=JobLimits(max_running=1))
    cases.step = gate = Gate()
    made = cases.create()
    other = dataclasses.replace(DRAFT, name="other")
    with pytest.raises(TooManyLookalikes):
        cases.create(draft=other)
    gate.opened.set()
    cases.settled(made.id)
    eventually(lambda: not cases.runner._all())
    assert cases.settled(cases.create(draft=other).id).creation_state is READY


def test_a_lookalike_whose_process_died_is_failed_when_its_lease_expires(
    service: Service, cases: Cases, client: Client, org: str
) -> None:
    """Readers see FAILED from then on, also before a sweep, and the sweep stores it."""
    made = store_lookalike(service, org, CREATING, lease_seconds=-0.001)
    shown = client.call("GetCustomAudience", {"id": made.id})
    assert (shown.creation_state, shown.error) == (CREATION_STATE_FAILED, INTERRUPTED)
    service.store.custom_audience_sweeper.sweep(now())
    stored = service.store.database["custom"].find_one({"sk": {"$regex": f"^{org}/"}, "pk": made.id})
    assert stored is not None
    assert (stored["work"]["state"], stored["work"]["error"], "lease_until" in stored) == ("FAILED", INTERRUPTED, False)
    assert cases.refreshed(made.id).creation_state is READY


def test_a_process_that_lost_its_lease_writes_nothing_more(service: Service, cases: Cases, org: str) -> None:
    """Renewal, end and publication of an expired or replaced attempt are refused."""
    custom_audiences, late = (
        service.store.custom_audiences,
        store_lookalike(service, org, CREATING, lease_seconds=-0.001),
    )
    list_version_id = new_list_version_id(late.id)
    custom_audiences.reserve(org, late.id, list_version_id, now() + timedelta(hours=1), NO_DEADLINE)

    def nothing_is_written() -> None:
        lease = Lease("dead", now() + timedelta(minutes=1))
        assert not custom_audiences.renew_work(org, late, lease, 50, NO_DEADLINE)
        assert not custom_audiences.end_work(org, late, "", NO_DEADLINE)
        with pytest.raises(StaleVersion):
            custom_audiences.publish(org, late, list_version_id, {}, NO_DEADLINE, ends_work=True)

    nothing_is_written()
    assert cases.get(late.id).creation_state is FAILED
    cases.step = gate = Gate()
    cases.custom_audiences.refresh(cases.ctx, late.id)
    assert gate.reached.wait(40)
    nothing_is_written()
    gate.opened.set()
    assert cases.settled(late.id).creation_state is READY


def test_a_sweep_leaves_work_alone_whose_lease_holds(service: Service, cases: Cases, org: str) -> None:
    """The work of a running process stays CREATING."""
    made = store_lookalike(service, org, CREATING)
    service.store.custom_audience_sweeper.sweep(now())
    assert cases.get(made.id).creation_state is CREATING


def test_a_server_that_stops_marks_its_work_failed_at_once(cases: Cases, gate: Gate) -> None:
    """Another server can start it again without waiting for the lease."""
    made = cases.create()
    assert gate.reached.wait(40)
    cases.runner.close()
    failed = cases.get(made.id)
    assert (failed.creation_state, failed.work and failed.work.error) == (FAILED, STOPPED)
    assert gate.cancelled.wait(40)


def test_deleting_a_lookalike_that_is_creating_cancels_the_work(cases: Cases, gate: Gate) -> None:
    """The deletion stops the job and releases the name."""
    made = cases.create()
    assert gate.reached.wait(40)
    cases.delete(made.id)
    assert gate.cancelled.wait(40)
    with pytest.raises(AudienceNotFound):
        cases.get(made.id)
    cases.step = lambda *_: None
    assert cases.created().creation_state is READY


@pytest.mark.slow
def test_a_deletion_by_another_process_cancels_the_work_at_its_next_renewal(make_cases: MakeCases) -> None:
    """The process that works notices when it renews the lease."""
    cases, other = make_cases(limits=JobLimits(lease_seconds=2)), make_cases()
    cases.step = gate = Gate()
    made = cases.create()
    assert gate.reached.wait(40)
    other.delete(made.id)
    assert gate.cancelled.wait(40)


def test_an_audience_renamed_while_it_is_creating_keeps_the_name(cases: Cases, gate: Gate) -> None:
    """An update and the creation are both written."""
    made = cases.create()
    assert gate.reached.wait(40)
    draft = CustomAudienceDraft("renamed", "")
    cases.custom_audiences.update(cases.ctx, made.id, draft, ["name"], 0, validate_only=False)
    gate.opened.set()
    ready = cases.settled(made.id)
    assert (ready.name, ready.version, ready.creation_state) == ("renamed", 1, READY)


@pytest.mark.parametrize("state", [CREATING, FAILED])
def test_the_members_of_an_audience_that_is_not_ready_cannot_be_used(
    service: Service, client: Client, org: str, insert: Insert, refused: Refused, state: CreationState
) -> None:
    """Every request for members is UNUSABLE_AUDIENCE with the state, and never takes the audience for empty."""
    [contact] = insert([{}])
    made = store_lookalike(service, org, state, error="SEED_TOO_SMALL: too few").id
    other = client.create(name="everyone", filter={"datatype": "contact", "where": {}}).id
    spec = {"sourceAudienceId": made, "share": 0.1}
    requests: list[tuple[str, dict[str, Any]]] = [
        ("EstimateReach", {"audienceId": made}),
        ("StreamReach", {"audienceId": made}),
        ("StreamMembers", {"audienceId": made}),
        ("StreamMembers", {"audienceId": other, "excludeAudienceIds": [made]}),
        ("CreateSnapshot", {"audienceId": made}),
        ("CreateSegment", {"segment": {"name": "frozen", "type": "static"}, "source": {"audienceId": made}}),
        ("CheckMembership", {"audienceIds": [made], "contactIds": [contact]}),
        ("ExplainMembership", {"contactId": contact, "audienceId": made}),
        ("WatchMembership", {"audienceId": made}),
        ("ExportIdentifiers", {"audienceId": made, "platform": "meta"}),
        ("CreateCustomAudience", {"customAudience": {"name": "x", "type": "lookalike", "lookalike": spec}}),
        ("GetLookalikeModel", {"id": made}),
    ]
    for rpc, request in requests:
        refusal = refused(lambda rpc=rpc, request=request: client.call(rpc, request))
        assert (refusal.code.name, refusal.info.reason) == ("FAILED_PRECONDITION", "UNUSABLE_AUDIENCE"), rpc
        assert dict(refusal.info.metadata) == {"id": made, "creation_state": state.value}, rpc
    found = client.call("ListAudiencesOfContact", {"contactId": contact})
    assert list(found.unusable_audience_ids) == [made]


def test_a_filter_with_an_audience_that_is_not_ready_is_invalid(
    service: Service, client: Client, org: str, insert: Insert, refused: Refused
) -> None:
    """Neither the filter nor its negation treats the audience as empty; the error names the place and the state."""
    insert([{}])
    inside = {"$inAudience": store_lookalike(service, org, CREATING).id}
    for where in (inside, {"$nor": [inside]}):
        written = {"datatype": "contact", "where": where}
        segment = {"segment": {"name": "of it", "filter": written}}
        for rpc, request in (("EstimateReach", {"filter": written}), ("CreateSegment", segment)):
            refusal = refused(lambda rpc=rpc, request=request: client.call(rpc, request))
            assert (refusal.code.name, refusal.info.reason) == ("INVALID_ARGUMENT", "INVALID_FILTER"), rpc
            assert "$inAudience" in refusal.fields[0]
            assert "CREATING" in refusal.message


def test_a_use_registered_during_a_deletion_stops_it(
    service: Service, cases: Cases, make_cases: MakeCases, client: Client
) -> None:
    """The deletion is taken back."""
    made = client.custom(name="raced").id
    racing = FailAtStep(service.store.custom_audiences, "remove", before=lambda: cases.register(made))
    with pytest.raises(AudienceInUse):
        make_cases(custom_audiences=racing).delete(made)
    assert client.call("GetCustomAudience", {"id": made}).name == "raced"


def test_a_deletion_that_is_taken_back_does_not_end_the_work(
    service: Service, cases: Cases, gate: Gate, make_cases: MakeCases
) -> None:
    """A creation goes on and becomes READY if its audience is not deleted in the end."""
    made = cases.create().id
    assert gate.reached.wait(40)
    racing = FailAtStep(service.store.custom_audiences, "remove", before=lambda: cases.register(made))
    with pytest.raises(AudienceInUse):
        make_cases(custom_audiences=racing).delete(made)
    gate.opened.set()
    assert cases.settled(made).creation_state is READY


def test_a_use_registered_as_its_audience_is_deleted_is_withdrawn(
    service: Service, cases: Cases, make_cases: MakeCases, client: Client
) -> None:
    """The registration fails, and no use stays."""
    made = client.custom(name="raced").id
    racers = make_cases(uses=FailAtStep(service.store.uses, "add", before=lambda: cases.delete(made)))
    with pytest.raises(AudienceNotFound):
        racers.register(made)
    assert service.store.uses.usage(cases.org, made, 1, NO_DEADLINE).use_count == 0


def test_a_deletion_without_a_version_retries_after_a_concurrent_publish(
    service: Service, cases: Cases, make_cases: MakeCases, client: Client
) -> None:
    """With a version it is STALE_VERSION."""
    made = cases.created().id
    times: list[None] = []

    def meanwhile() -> None:
        if not times:
            times.append(None)
            cases.refreshed(made)

    racing = make_cases(custom_audiences=FailAtStep(service.store.custom_audiences, "remove", before=meanwhile))
    with pytest.raises(StaleVersion):
        racing.delete(made, 0)
    times.clear()
    racing.delete(made)
    assert client.call("ListCustomAudiences").total_size == 0


def test_a_lookalike_that_is_creating_keeps_its_source_from_being_deleted(
    cases: Cases, gate: Gate, client: Client, refused: Refused
) -> None:
    """The source is in use from the start."""
    source = client.create(name="seed", filter={"datatype": "contact", "where": {}}).id
    cases.create(draft=dataclasses.replace(DRAFT, spec=LookalikeSpec(source, share=0.1)))
    assert gate.reached.wait(40)
    assert refused(lambda: client.call("DeleteSegment", {"id": source})).info.reason == "AUDIENCE_IN_USE"
