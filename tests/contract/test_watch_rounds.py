"""Rounds of tracking run step by step, on every store: what happens in the midst of one, and at its end."""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from audience_service.domain.audiences import Audiences
from audience_service.domain.caller import Call, Caller, Deadline
from audience_service.domain.filters import Filter, FilterCompiler
from audience_service.domain.ready_snapshots import ReadySnapshots
from audience_service.domain.segment import Segment, SegmentType
from audience_service.domain.snapshot import Snapshot, SnapshotState
from audience_service.domain.tokens import TokenSealer
from audience_service.domain.watches import rounds as rounds_module
from audience_service.domain.watches import watching as watching_module
from audience_service.domain.watches.bell import Bell
from audience_service.domain.watches.errors import WatchTokenExpired
from audience_service.domain.watches.ports import Overtaken
from audience_service.domain.watches.rounds import Rounds
from audience_service.domain.watches.starts import Starts
from audience_service.domain.watches.watch import EVERYTHING, Changes, Event, Look, Outlook, Watch
from audience_service.domain.watches.watching import Keeping, Watching
from audience_service.mongo import ledger as ledger_module
from tests.conftest import Service
from tests.midst import Midst

pytestmark = pytest.mark.usefixtures("unwatched")

NEVER = Deadline(None)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATELY = {"lastOpened": {"$gte": {"$dateSubtract": {"startDate": "$$NOW", "unit": "day", "amount": 30}}}}


class Tracked:
    """An audience of an org that is tracked by whoever says so."""

    def __init__(self, service: Service, org: str, where: dict[str, Any]) -> None:
        self.service, self.store, self.org = service, service.store, org
        self.audience = f"segment-{org}"
        segment = Segment(self.audience, org, "", SegmentType.DYNAMIC, Filter("contact", where))
        self.store.segments.insert(org, segment, None, NEVER)
        # Leased to the test for good, so that the service's own tracker leaves it alone.
        self.lease = "the test's"
        self.store.watches.want(org, self.audience, NOON + timedelta(days=1_000), NEVER)
        self.claim(self.lease)

    def claim(self, lease: str) -> None:
        """Lease it, whoever holds it."""
        forever = {"lease": lease, "lease_until": datetime(2999, 1, 1, tzinfo=UTC)}
        self.store.database["audience_watch"].update_one({"audience": self.audience}, {"$set": forever})

    def watch(self) -> Watch:
        """How far it is tracked."""
        watch = self.store.watches.get(self.org, self.audience, NEVER)
        assert watch is not None
        return watch

    def round(self, moment: datetime = NOON, look: Look = EVERYTHING, *, lease: str = "", **replaced: Any) -> Outlook:
        """Run a round at a moment, with some repositories replaced."""
        parts = {"watches": self.store.watches, "ledger": self.store.ledger, **replaced}
        audiences = Audiences(self.store.segments, FilterCompiler(["contact"], ["order"]))
        rounds = Rounds(parts["watches"], parts["ledger"], audiences, Bell(), timedelta(days=7), lambda: moment)
        return rounds.run(self.watch(), lease or self.lease, look)

    def events(self) -> list[tuple[str, str]]:
        """What the ledger has."""
        return [(event.flip.change.value, event.flip.pk) for event in self.ledger()]

    def causes(self) -> list[str]:
        """By what."""
        return [event.cause.value for event in self.ledger()]

    def ledger(self) -> list[Event]:
        """The events."""
        return self.store.ledger.read(self.org, self.watch().generation, 0, None, 1_000, NEVER)

    def listen(self, seq: int, checkpoint_seconds: float = 10) -> Any:
        """Watch from behind an event on."""
        sealer = TokenSealer(b"key")
        audiences = Audiences(self.store.segments, FilterCompiler(["contact"]))
        keeping = Keeping(timedelta(days=7), checkpoint_seconds)
        starts = Starts(self.store.starts, ReadySnapshots(self.store.snapshots, self.store.members))
        watching = Watching(
            self.store.watches, self.store.ledger, starts, audiences, sealer, keeping, lambda: None, Bell()
        )
        call = Call(Caller("test", self.org, frozenset()), NEVER)
        token = sealer.seal(("watch", self.org, self.audience), [self.watch().generation, seq])
        return watching.watch(call, self.audience, token)

    def update(self, key: str, **fields: Any) -> None:
        """Change fields of a contact."""
        sk = f"{self.org}/contact/{key}"
        self.store.database["contact"].update_one({"sk": sk}, {"$set": fields})

    def define(self, where: dict[str, Any]) -> None:
        """Edit the segment."""
        change = {"$set": {"data.filter.where": where}, "$inc": {"version": 1}}
        self.store.database["segment"].update_one({"pk": self.audience}, change)


@pytest.fixture
def tracked(service: Service, org: str) -> Callable[[dict[str, Any]], Tracked]:
    """An audience of the test's org, by its filter."""
    return lambda where: Tracked(service, org, where)


def test_nobody_is_judged_by_a_filter_that_was_no_more(service: Service, org: str, tracked: Any) -> None:
    service.insert(org, [{"id": "a", "data": {"plan": "free", "score": 1}}])
    audience = tracked({"plan": "paid"})
    audience.round()

    def edit_and_pay() -> None:
        audience.define({"score": {"$gte": 5}})
        audience.update("a", **{"data.plan": "paid"})

    service.insert(org, [{"id": "b", "data": {"plan": "paid"}}])
    with pytest.raises(Overtaken):
        audience.round(ledger=Midst(service.store.ledger, "judge", before=edit_and_pay))
    audience.round()
    assert audience.events() == []


def test_a_process_whose_clock_is_behind_takes_nothing_back(service: Service, org: str, tracked: Any) -> None:
    service.insert(org, [{"id": "a", "data": {"lastOpened": NOON - timedelta(days=30)}}])
    audience = tracked(LATELY)
    audience.round()
    audience.round(NOON + timedelta(seconds=2))
    assert audience.events() == [("exited", "contact-a")]
    audience.round(NOON - timedelta(hours=1))
    assert audience.events() == [("exited", "contact-a")]
    assert audience.watch().as_of == NOON + timedelta(seconds=2)


def test_what_a_process_recorded_that_died_meanwhile_is_removed(service: Service, org: str, tracked: Any) -> None:
    service.insert(org, [{"id": "a", "data": {"plan": "paid"}}])
    audience = tracked({"plan": "paid"})

    def die() -> None:
        raise RuntimeError("dies")

    with pytest.raises(RuntimeError):
        audience.round(ledger=Midst(service.store.ledger, "record", after=die))
    [left_behind] = audience.watch().garbage
    assert (audience.watch().generation, rows(service, left_behind)) == ("", 1)
    audience.round()
    assert (rows(service, left_behind), rows(service, audience.watch().generation)) == (0, 1)
    assert audience.watch().garbage == ()


def test_a_generation_that_somebody_else_began_meanwhile_stands(service: Service, org: str, tracked: Any) -> None:
    service.insert(org, [{"id": "a", "data": {"plan": "paid"}}])
    audience = tracked({"plan": "paid"})

    def take_over() -> None:
        audience.claim("theirs")
        audience.round(lease="theirs")

    with pytest.raises(Overtaken):
        audience.round(ledger=Midst(service.store.ledger, "record", after=take_over))
    begun = audience.watch().generation
    audience.claim(audience.lease)
    audience.round()
    assert audience.watch().generation == begun
    assert audience.events() == []


def test_a_generation_that_somebody_else_removed_meanwhile_does_not_begin(
    service: Service, org: str, tracked: Any
) -> None:
    audience = tracked({"plan": "paid"})

    def die() -> None:
        raise RuntimeError("dies")

    def take_over_and_die() -> None:
        audience.claim("theirs")
        with pytest.raises(RuntimeError):
            audience.round(lease="theirs", ledger=Midst(service.store.ledger, "record", before=die))

    with pytest.raises(Overtaken):
        audience.round(ledger=Midst(service.store.ledger, "record", after=take_over_and_die))
    assert audience.watch().generation == ""


def test_events_that_were_appended_and_not_applied_are_applied_first(service: Service, org: str, tracked: Any) -> None:
    service.insert(org, [{"id": "a"}])
    audience = tracked({"plan": "paid"})
    audience.round()
    audience.update("a", **{"data.plan": "paid"})

    def die() -> None:
        raise RuntimeError("dies")

    with pytest.raises(RuntimeError):
        audience.round(ledger=Midst(service.store.ledger, "append", after=die))
    assert (audience.watch().seq, audience.events()) == (0, [("entered", "contact-a")])
    audience.update("a", **{"data.plan": "free"})
    audience.round(NOON + timedelta(seconds=1))
    assert audience.events() == [("entered", "contact-a"), ("exited", "contact-a")]
    assert audience.watch().seq == 2


def test_who_has_lost_the_lease_appends_nothing_behind_what_others_did(
    service: Service, org: str, tracked: Any
) -> None:
    service.insert(org, [{"id": "a"}, {"id": "b"}])
    audience = tracked({"plan": "paid"})
    audience.round()
    audience.update("a", **{"data.plan": "paid"})
    audience.update("b", **{"data.plan": "paid"})

    def take_over() -> None:
        audience.claim("theirs")
        audience.update("b", **{"data.plan": "free"})
        audience.round(lease="theirs")

    with pytest.raises(Overtaken):
        audience.round(ledger=Midst(service.store.ledger, "append", before=take_over))
    assert audience.events() == [("entered", "contact-a")]


def test_who_has_lost_the_lease_does_not_say_what_defines_the_audience(
    service: Service, org: str, tracked: Any
) -> None:
    audience = tracked({"plan": "paid"})
    audience.round()

    def take_over() -> None:
        audience.claim("theirs")
        audience.define({"plan": "free"})
        audience.round(lease="theirs")
        audience.claim("theirs")

    with pytest.raises(Overtaken):
        audience.round(watches=Midst(service.store.watches, "finish", before=take_over))
    audience.claim(audience.lease)
    service.insert(org, [{"id": "a", "data": {"plan": "free"}}])
    audience.round()
    assert audience.causes() == ["data"]


def test_who_notes_late_how_far_it_came_sets_nothing_back(service: Service, org: str, tracked: Any) -> None:
    service.insert(org, [{"id": "a"}])
    audience = tracked({"plan": "paid"})
    audience.round()
    audience.update("a", **{"data.plan": "paid"})

    def take_over() -> None:
        audience.claim("theirs")
        audience.update("a", **{"data.plan": "free"})
        audience.round(lease="theirs")

    with pytest.raises(Overtaken):
        audience.round(watches=Midst(service.store.watches, "advance", before=take_over))
    assert (audience.watch().seq, len(audience.events())) == (2, 2)


def test_tracking_does_not_end_where_the_audience_is_wanted_again_just_then(
    service: Service, org: str, tracked: Any
) -> None:
    audience = tracked({"plan": "paid"})
    audience.round()
    generation = audience.watch().generation
    late = NOON + timedelta(days=2_000)

    def want() -> None:
        service.store.watches.want(org, audience.audience, late + timedelta(days=1), NEVER)

    with pytest.raises(Overtaken):
        audience.round(late, watches=Midst(service.store.watches, "end", before=want))
    assert audience.watch().generation == generation


def test_a_watch_is_removed_behind_all_that_was_recorded_for_it(service: Service, org: str, tracked: Any) -> None:
    service.insert(org, [{"id": "a", "data": {"plan": "paid"}}])
    audience = tracked({"plan": "paid"})
    audience.round()
    generation, late = audience.watch().generation, NOON + timedelta(days=2_000)

    def die() -> None:
        raise RuntimeError("dies")

    audience.round(late)
    assert (audience.watch().garbage, rows(service, generation)) == ((generation,), 1)
    with pytest.raises(RuntimeError):
        audience.round(late, ledger=Midst(service.store.ledger, "remove", before=die))
    with pytest.raises(Overtaken):
        service.store.watches.end(audience.watch(), audience.lease, late, NEVER)
    audience.round(late)
    assert (service.store.watches.get(org, audience.audience, NEVER), rows(service, generation)) == (None, 0)


def test_a_filter_that_fails_is_told_and_mended_by_the_next_round(service: Service, org: str, tracked: Any) -> None:
    service.insert(org, [{"id": "a", "data": {"plan": "paid"}}])
    audience = tracked({"plan": "paid"})
    audience.round()
    audience.define({"plan": {"$near": 1}})
    audience.round()
    failure = audience.watch().failure
    assert failure is not None
    assert failure.reason == "UNUSABLE_AUDIENCE"
    audience.define({"plan": "free"})
    audience.round()
    assert audience.watch().failure is None
    assert audience.events() == [("exited", "contact-a")]


def keys_of(org: str, keys: str) -> frozenset[str]:
    """The sks of contacts."""
    return frozenset(f"{org}/contact/{key}" for key in keys)


def rows(service: Service, generation: str) -> int:
    """How many members are recorded for a generation."""
    found = service.store.database["audience_tracked"].find({}, {"_id": 1})
    return sum(row["_id"].startswith(f"{generation}/") for row in found)


def opened(moment: datetime) -> dict[str, Any]:
    """A contact's payload that opened a mail at a moment, as the platform writes it."""
    return {"data": {"lastOpened": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")}}


def test_the_next_moment_at_which_time_moves_anybody_is_told(service: Service, org: str, tracked: Any) -> None:
    month = timedelta(days=30)
    service.insert(org, [{"id": "late", **opened(NOON - month + timedelta(hours=3))}])
    service.insert(org, [{"id": "soon", "data": {"lastOpened": NOON - month + timedelta(seconds=90.5)}}])
    service.insert(org, [{"id": "out", **opened(NOON - month - timedelta(seconds=1))}])
    audience = tracked(LATELY)
    outlook = audience.round()
    passages = [outlook.next_passage]
    for _ in range(2):
        outlook = audience.round(outlook.next_passage, Look(last=outlook))
        passages.append(outlook.next_passage)
    millisecond = timedelta(milliseconds=1)
    soon, late = NOON + timedelta(seconds=90.5), NOON + timedelta(hours=3)
    assert passages == [soon, soon + millisecond, late]
    assert audience.events() == [("exited", "contact-soon")]


@pytest.mark.parametrize(
    "where",
    [
        {"$nor": [LATELY]},
        {"visits": {"$elemMatch": {"at": LATELY["lastOpened"]}}},
        {"opens": {"$elemMatch": LATELY["lastOpened"]}},
        {"opens.0": LATELY["lastOpened"]},
        {"score": 1, "$or": [{"plan": "paid"}, LATELY]},
    ],
)
def test_whom_time_has_moved_is_found_without_a_look_at_the_rest(real_service: Service, where: dict[str, Any]) -> None:
    org = f"clockwork{next(real_service.names)}"
    then = NOON - timedelta(days=30) + timedelta(minutes=1)
    aging = {"lastOpened": then, "score": 1, "visits": [{"at": then}], "opens": [then]}
    real_service.insert(org, [{"id": "aging", "data": aging}, {"id": "other"}])
    audience = Tracked(real_service, org, where)
    outlook = audience.round()
    assert outlook.next_passage == NOON + timedelta(minutes=1)
    later = NOON + timedelta(minutes=2)
    # One that only a look at everything would find.
    real_service.insert(org, [{"id": "new", "data": {**aging, "lastOpened": NOON, "opens": [NOON]}}])
    ledger = Midst(real_service.store.ledger, "differences", before=lambda: pytest.fail("everything is compared"))
    audience.round(later, Look(last=outlook), ledger=ledger)
    assert [pk for _, pk in audience.events()] == ["contact-aging"]
    assert audience.causes() == ["time"]
    assert audience.watch().as_of == NOON


def test_a_flip_is_of_time_only_where_data_would_not_have_made_it(service: Service, org: str, tracked: Any) -> None:
    month = timedelta(days=30)
    service.insert(org, [{"id": "a", **opened(NOON - month)}, {"id": "b", **opened(NOON)}])
    audience = tracked(LATELY)
    audience.round()
    audience.update("b", **opened(NOON - month - timedelta(hours=1)))
    service.insert(org, [{"id": "c", **opened(NOON)}])
    audience.round(NOON + timedelta(minutes=1))
    assert audience.events() == [("exited", "contact-a"), ("exited", "contact-b"), ("entered", "contact-c")]
    assert audience.causes() == ["time", "data", "data"]


def test_where_flips_are_dense_the_next_look_is_a_second_away(real_service: Service) -> None:
    org = f"dense{next(real_service.names)}"
    first = NOON - timedelta(days=30)
    contacts = [{"data": {"lastOpened": first + timedelta(milliseconds=number)}} for number in range(900)]
    real_service.insert(org, contacts)
    outlook = Tracked(real_service, org, LATELY).round()
    assert outlook.next_passage == NOON + timedelta(seconds=1)


def test_expressions_over_now_are_told_to_be_unforeseen(real_service: Service) -> None:
    org = f"unforeseen{next(real_service.names)}"
    where = {"$expr": {"$gt": ["$data.renewsAt", "$$NOW"]}}
    assert Tracked(real_service, org, where).round().unforeseen
    assert not Tracked(real_service, f"{org}2", LATELY).round().unforeseen


def test_what_changed_is_looked_at_alone(service: Service, org: str, tracked: Any) -> None:
    service.insert(org, [{"id": "a"}, {"id": "b"}, {"id": "c", "data": {"plan": "paid"}}])
    audience = tracked({"plan": "paid"})
    outlook = audience.round()
    assert (outlook.follows, outlook.next_passage) == ("contact", None)
    for key, plan in (("a", "paid"), ("b", "paid"), ("c", "free")):
        audience.update(key, **{"data.plan": plan})
    changed = Changes(frozenset(f"{org}/contact/{key}" for key in "ac"), complete=True, complete_at=NOON)
    ledger = Midst(service.store.ledger, "differences", before=lambda: pytest.fail("everything is compared"))
    audience.round(NOON + timedelta(seconds=5), Look(changed, outlook), ledger=ledger)
    assert audience.events() == [("entered", "contact-a"), ("exited", "contact-c")]
    assert audience.watch().as_of == NOON


def test_a_round_tells_all_that_it_finds_though_that_is_more_than_one_command_takes(
    service: Service, org: str, tracked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "_JUDGED", 2)
    monkeypatch.setattr(rounds_module, "_PAGE", 2)
    service.insert(org, [{"id": key} for key in "abcde"])
    audience = tracked({"plan": "paid"})
    outlook = audience.round()
    for plan, look in (("paid", EVERYTHING), ("free", Look(Changes(keys_of(org, "abcde"), complete=True), outlook))):
        for key in "abcde":
            audience.update(key, **{"data.plan": plan})
        audience.round(look=look)
    assert [event.seq for event in audience.ledger()] == list(range(1, 11))


def test_an_edit_is_looked_at_in_everything_whatever_the_round_was_for(
    service: Service, org: str, tracked: Any
) -> None:
    service.insert(org, [{"id": "a", "data": {"plan": "free"}}])
    audience = tracked({"plan": "paid"})
    outlook = audience.round()
    audience.define({"plan": "free"})
    audience.round(look=Look(Changes(complete=True, complete_at=NOON), outlook))
    assert (audience.events(), audience.causes()) == ([("entered", "contact-a")], ["definition"])


def test_what_changed_may_bring_the_next_moment_nearer_and_nothing_else_is_asked(
    service: Service, org: str, tracked: Any
) -> None:
    month = timedelta(days=30)
    service.insert(org, [{"id": "a", **opened(NOON - month + timedelta(hours=2))}])
    audience = tracked(LATELY)
    outlook = audience.round()
    service.insert(org, [{"id": key, **opened(NOON - month + timedelta(hours=1))} for key in "bc"])
    later = NOON + timedelta(minutes=1)
    nothing = Midst(service.store.ledger, "dated", before=lambda: pytest.fail("the dates of all are asked for"))
    assert audience.round(later, Look(last=outlook), ledger=nothing).next_passage == NOON + timedelta(hours=2)
    changed = Changes(frozenset((f"{org}/contact/b",)), complete=True)
    assert audience.round(later, Look(changed, outlook)).next_passage == NOON + timedelta(hours=1)
    audience.update("b", **opened(NOON - month + timedelta(hours=3)))
    assert audience.round(later, Look(changed, outlook)).next_passage == NOON + timedelta(hours=2)


@pytest.mark.parametrize("where", [{"$inAudience": "list"}, {"$related": "order"}])
def test_filters_that_look_into_other_collections_follow_no_changes(real_service: Service, where: Any) -> None:
    org = f"joined{next(real_service.names)}"
    client = real_service.client(org)
    if "$inAudience" in where:
        where = {"$inAudience": client.create(name="list", type="static").id}
    else:
        real_service.insert(org, [{}], "order")
        where = {"$related": {"datatype": "order", "on": {"local": "pk", "foreign": "contactId"}}}
    audience = Tracked(real_service, org, where)
    assert audience.round().follows == ""
    assert audience.watch().failure is None


def test_events_go_when_they_have_been_kept_for_their_time_and_tokens_with_them(
    service: Service, org: str, tracked: Any
) -> None:
    service.insert(org, [{"id": "a"}])
    audience = tracked({"plan": "paid"})
    audience.round()
    for day, plan in enumerate(["paid", "free", "paid", "free"]):
        audience.update("a", **{"data.plan": plan})
        audience.round(NOON + timedelta(days=day))
    later = NOON + timedelta(days=8, hours=1)
    audience.round(later)
    read = service.store.ledger.read
    generation = audience.watch().generation
    assert [event.seq for event in read(org, generation, 2, None, 10, NEVER)] == [3, 4]
    assert read(org, generation, 1, None, 10, NEVER) == []
    for position, why in ((2, ""), (1, "older than they are kept")):
        stream = audience.listen(position)
        if why:
            with pytest.raises(WatchTokenExpired, match=why):
                next(stream)
        else:
            assert [event.seq for event in next(stream).events] == [3, 4]
        stream.close()
    audience.update("a", **{"data.plan": "paid"})
    audience.round(later)
    assert audience.watch().seq == 5


def test_who_was_in_by_an_event_is_told_though_later_events_have_been_applied(
    service: Service, org: str, tracked: Any
) -> None:
    """From a snapshot to every event of a random ledger, against a plain fold of it."""
    chance = random.Random(3)
    keys = "abcdefgh"
    service.insert(org, [{"id": key, "data": {"plan": chance.choice(["paid", "free"])}} for key in keys])
    audience = tracked({"plan": "paid"})
    audience.round()
    contacts = service.store.database["contact"]
    states = [{row["pk"] for row in contacts.find({"sk": {"$gte": f"{org}/", "$lt": f"{org}0"}, "data.plan": "paid"})}]
    snapshot = Snapshot(f"snapshot-{org}", "", SnapshotState.READY, "contact", NOON, NOON, "")
    frozen = {f"contact-{key}" for key in chance.sample(keys, 4)}
    rows = [{"audience": snapshot.rows_id, "pk": pk, "sk": f"{org}/contact/{pk[-1]}"} for pk in frozen]
    service.store.database["audience_member"].insert_many(rows)
    for _ in range(12):
        for key in chance.sample(keys, 3):
            audience.update(key, **{"data.plan": chance.choice(["paid", "free"])})
        audience.round()
    states += [states[0].copy() for _ in audience.ledger()]
    for seq, event in enumerate(audience.ledger(), 1):
        states[seq] = states[seq - 1] ^ {event.flip.pk}
    assert len(states) > 10
    for seq, members in enumerate(states):
        expected = {("entered", pk) for pk in members - frozen} | {("exited", pk) for pk in frozen - members}
        for after in ("", f"{org}/contact/d"):
            batches = service.store.starts.differences(org, audience.watch().generation, seq, snapshot, after, NEVER)
            told = [(flip.change.value, flip.pk) for flips, _ in batches for flip in flips]
            behind = {(change, pk) for change, pk in expected if f"{org}/contact/{pk[-1]}" > after}
            assert (set(told), len(told)) == (behind, len(behind))


def test_who_was_in_by_an_event_is_not_told_where_later_events_have_gone(
    service: Service, org: str, tracked: Any
) -> None:
    service.insert(org, [{"id": "a"}])
    audience = tracked({"plan": "paid"})
    audience.round()
    for plan in ("paid", "free"):
        audience.update("a", **{"data.plan": plan})
        audience.round()
    generation = audience.watch().generation
    service.store.ledger.forget(org, generation, NOON + timedelta(days=1), 2, NEVER)
    snapshot = Snapshot(f"snapshot-{org}", "", SnapshotState.READY, "contact", NOON, NOON, "")
    with pytest.raises(Overtaken):
        list(service.store.starts.differences(org, generation, 1, snapshot, "", NEVER))
    assert list(service.store.starts.differences(org, generation, 2, snapshot, "", NEVER)) == []


def test_a_token_from_behind_the_ledgers_end_is_refused(service: Service, org: str, tracked: Any) -> None:
    audience = tracked({"plan": "paid"})
    audience.round()
    stream = audience.listen(1)
    with pytest.raises(WatchTokenExpired, match="set back"):
        next(stream)


def test_messages_before_the_last_that_is_known_of_do_not_say_that_nothing_is_missing(
    service: Service, org: str, tracked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching_module, "_BATCH", 2)
    service.insert(org, [{"id": key} for key in "abc"])
    audience = tracked({"plan": "paid"})
    audience.round()
    for key in "abc":
        audience.update(key, **{"data.plan": "paid"})
    audience.round()
    stream = audience.listen(0)
    messages = [next(stream) for _ in range(2)]
    stream.close()
    assert [(len(message.events), message.as_of) for message in messages] == [(2, None), (1, NOON)]


def test_an_audience_is_wanted_for_as_long_as_somebody_listens(service: Service, org: str, tracked: Any) -> None:
    audience = tracked({"plan": "paid"})
    audience.round()
    long_ago = {"$set": {"wanted_until": datetime(2020, 1, 1, tzinfo=UTC)}}
    stream = audience.listen(0, checkpoint_seconds=0)
    for _ in range(2):
        service.store.database["audience_watch"].update_one({"audience": audience.audience}, long_ago)
        next(stream)
        assert audience.watch().wanted_until > datetime.now(UTC)
    stream.close()
