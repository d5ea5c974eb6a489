"""Custom audiences that are made with a list, and what races with their making and their deletion."""

import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import pytest

from audience_service.domain.audiences.audiences import Audiences
from audience_service.domain.audiences.use import AudienceUse
from audience_service.domain.audiences.uses import AudienceUses
from audience_service.domain.caller import Call, Caller, Deadline
from audience_service.domain.clock import now
from audience_service.domain.creation import new_rows_id
from audience_service.domain.custom.audience import CustomAudience, CustomDraft, CustomType, LookalikeSpec
from audience_service.domain.custom.audiences import CustomAudiences
from audience_service.domain.custom.deletion import CustomDeletion
from audience_service.domain.custom.errors import SeedTooSmall
from audience_service.domain.errors import (
    AudienceInUse,
    AudienceNotFound,
    NameTaken,
    OutOfTime,
    RequestIdReused,
    StaleVersion,
)
from audience_service.domain.filters import FilterCompiler
from audience_service.domain.tokens import TokenSealer
from tests.client import Client
from tests.conftest import Service
from tests.lists import NEVER, rows_of, write_rows
from tests.midst import Midst

Insert = Callable[..., list[str]]

DRAFT = CustomDraft("like", "lookalike", spec=LookalikeSpec("segment-x", share=0.1))


class Cases:
    """The use cases on repositories that may be replaced, with lookalikes that `make` writes the list of."""

    def __init__(self, service: Service, org: str, **replaced: Any) -> None:
        self.store, self.org = service.store, org
        self.call = Call(Caller("racer", org, frozenset()), NEVER)
        customs, uses = replaced.get("customs", self.store.customs), replaced.get("uses", self.store.uses)
        self.make: Callable[[], None] = lambda: None
        self.ids: list[str] = []
        like = CustomType.LOOKALIKE
        plans = {like: lambda _, drafted: dataclasses.replace(drafted, datatype="contact")}
        self.customs = CustomAudiences(customs, self.store.lists, plans, {like: self._refresh}, TokenSealer(b"key"))
        self.deletion = CustomDeletion(customs, self.customs, uses)
        audiences = Audiences(self.store.segments, FilterCompiler(["contact"]))
        self.uses = AudienceUses(self.store.segments, uses, audiences, {"custom-": customs.get})

    def create(self, request_id: str = "", draft: CustomDraft = DRAFT, deadline: Deadline = NEVER) -> CustomAudience:
        """A new lookalike."""
        call = dataclasses.replace(self.call, deadline=deadline)
        return self.customs.create(call, draft, request_id, validate_only=False)

    def delete(self, audience_id: str, version: int | None = None) -> None:
        """Delete without force."""
        self.deletion.delete(self.call, audience_id, version, force=False)

    def register(self, audience_id: str) -> None:
        """Register a use."""
        self.uses.register(self.call, AudienceUse(audience_id, "campaign", "racing"))

    def _refresh(self, call: Call, audience: CustomAudience) -> CustomAudience:
        rows_id = new_rows_id(audience.id)
        self.store.customs.reserve(self.org, audience.id, rows_id, now(), NEVER)
        write_rows(self.store, self.org, rows_id, self.ids)
        self.make()
        self.store.customs.reserve(self.org, audience.id, rows_id, now().replace(year=2100), NEVER)
        return self.store.customs.publish(self.org, audience, rows_id, {"model": 1}, call.deadline)


@pytest.fixture
def cases(service: Service, org: str) -> Cases:
    """The use cases on the store as it is."""
    return Cases(service, org)


def too_small() -> None:
    """Fail as a lookalike does."""
    raise SeedTooSmall("too few")


def test_a_lookalike_has_its_list_and_version_0_when_it_is_there(cases: Cases, client: Client, insert: Insert) -> None:
    cases.ids = insert([{}, {}])
    made = cases.create()
    assert (made.state, made.version, made.contact_count) == ("active", 0, 2)
    assert client.count(audienceId=made.id) == 2
    again = cases.customs.refresh(cases.call, made.id)
    assert (again.version, again.contact_count, again.published) == (1, 2, {"model": 1})
    assert again.rows_id != made.rows_id


def test_nothing_is_kept_of_one_that_cannot_be_made(service: Service, cases: Cases, insert: Insert) -> None:
    cases.ids, cases.make = insert([{}]), too_small
    with pytest.raises(SeedTooSmall):
        cases.create("r")
    [left] = service.store.database["custom"].find({"sk": {"$regex": f"^{cases.org}/"}})
    assert left["state"] == "deleted"
    service.store.custom_sweeper.sweep(now().replace(year=2101))
    assert rows_of(service.store, left["pk"]) == set()
    cases.make = lambda: None
    assert cases.create("r").name == "like"


def test_a_request_that_is_repeated_while_it_is_made_waits_for_what_is_made(cases: Cases) -> None:
    told: list[CustomAudience] = []
    begun = threading.Event()

    def repeat() -> None:
        begun.set()
        told.append(cases.create("r", deadline=Deadline.after(30)))

    repeating = threading.Thread(target=repeat)

    def meanwhile() -> None:
        repeating.start()
        begun.wait(10)

    cases.make = meanwhile
    made = cases.create("r")
    repeating.join(30)
    assert told == [made]


def test_a_request_that_is_repeated_waits_no_longer_than_its_deadline(cases: Cases) -> None:
    seen: list[type[Exception]] = []

    def meanwhile() -> None:
        for request, draft, seconds in (
            ("r", DRAFT, 0.3),
            ("r", dataclasses.replace(DRAFT, name="x"), 9),
            ("", DRAFT, 9),
        ):
            try:
                cases.create(request, draft, Deadline.after(seconds))
            except (OutOfTime, RequestIdReused, NameTaken) as error:
                seen.append(type(error))

    cases.make = meanwhile
    cases.create("r")
    assert seen == [OutOfTime, RequestIdReused, NameTaken]


def test_one_whose_maker_died_is_made_anew_once_its_time_has_passed(service: Service, cases: Cases) -> None:
    class Killed(BaseException):
        """What ends a process, which takes nothing back."""

    def die() -> None:
        raise Killed

    class Forgetful:
        """Storage that the dead maker does not reach any more."""

        def __getattr__(self, name: str) -> Any:
            return (lambda *_: None) if name == "remove" else getattr(service.store.customs, name)

    dying = Cases(service, cases.org, customs=Forgetful())
    dying.make = die
    with pytest.raises(Killed):
        dying.create("r", deadline=Deadline.after(2))
    made = cases.create("r", deadline=Deadline.after(30))
    assert made.name == "like"


def test_a_use_registered_while_the_deletion_goes_on_stops_it(service: Service, cases: Cases, client: Client) -> None:
    made = client.custom(name="raced").id
    midst = Midst(service.store.customs, "remove", before=lambda: cases.register(made))
    with pytest.raises(AudienceInUse):
        Cases(service, cases.org, customs=midst).delete(made)
    assert client.call("GetCustomAudience", {"id": made}).name == "raced"


def test_a_use_registered_as_its_audience_goes_is_taken_back(service: Service, cases: Cases, client: Client) -> None:
    made = client.custom(name="raced").id
    racers = Cases(service, cases.org, uses=Midst(service.store.uses, "add", before=lambda: cases.delete(made)))
    with pytest.raises(AudienceNotFound):
        racers.register(made)
    assert service.store.uses.usage(cases.org, made, 1, NEVER).use_count == 0


def test_a_deletion_without_a_version_goes_on_where_a_list_was_published_meanwhile(
    service: Service, cases: Cases, client: Client
) -> None:
    made = cases.create().id
    times: list[None] = []

    def meanwhile() -> None:
        if not times:
            times.append(None)
            cases.customs.refresh(cases.call, made)

    racing = Cases(service, cases.org, customs=Midst(service.store.customs, "remove", before=meanwhile))
    with pytest.raises(StaleVersion):
        racing.delete(made, 0)
    times.clear()
    racing.delete(made)
    assert client.call("ListCustomAudiences").total_size == 0


def test_a_lookalike_that_is_being_made_holds_its_source(cases: Cases, client: Client) -> None:
    source = client.create(name="seed", filter={"datatype": "contact", "where": {}}).id
    refused: list[Exception] = []

    def meanwhile() -> None:
        try:
            client.call("DeleteSegment", {"id": source})
        except Exception as error:
            refused.append(error)

    cases.make = meanwhile
    cases.create(draft=dataclasses.replace(DRAFT, spec=LookalikeSpec(source, share=0.1)))
    assert len(refused) == 1
    assert client.call("GetSegment", {"id": source}).name == "seed"
