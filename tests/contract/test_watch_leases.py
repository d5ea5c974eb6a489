"""Who tracks a watched audience, and for how long, on every store."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from audience_service.domain.caller import Deadline
from audience_service.domain.watches.held import Pace
from audience_service.domain.watches.ports import Overtaken
from audience_service.domain.watches.tracker import Tracker
from audience_service.domain.watches.watch import (
    EVERYTHING,
    Cause,
    Change,
    Changes,
    Event,
    Flip,
    Look,
    Outlook,
    Watch,
)
from audience_service.mongo.store import Store
from tests.conftest import run_service
from tests.contract.test_watch import VIPS, watching
from tests.waiting import eventually

NEVER = Deadline(None)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class World:
    """A clock, and rounds that do as the test says."""

    def __init__(self, store: Store) -> None:
        self.store, self.seconds, self.asking = store, 0.0, 0
        self.follows = False
        self.looks: list[tuple[str, Look]] = []
        self.during: Callable[[Watch], Outlook | None] = lambda _: None

    def clock(self) -> datetime:
        """The time of day."""
        return NOON + timedelta(seconds=self.seconds)

    def run(self, watch: Watch, lease: str, look: Look) -> Outlook:
        """A round."""
        self.looks.append((watch.audience_id, look))
        return self.during(watch) or Outlook(self.clock())

    def tracker(self, **pace: float) -> Tracker:
        """Another process."""
        rounds: Any = self
        feed: Any = self
        settings = Pace(**{"poll_seconds": 2, "lease_seconds": 15, **pace})
        return Tracker(self.store.watches, rounds, feed, settings, self.clock, lambda: self.seconds)

    def subscribe(self, org: str, datatype: str) -> Any:
        """Be told that nothing has changed, or be told nothing, for as long as one asks."""
        self.asking += 1
        gone = lambda: setattr(self, "asking", self.asking - 1)  # noqa: E731
        return SimpleNamespace(
            datatype=datatype,
            follows=self.follows,
            has_news=False,
            is_complete=self.follows,
            take=lambda: Changes(complete=self.follows),
            close=gone,
        )

    def want(self, audience_id: str, org: str = "acme") -> None:
        """Watch an audience."""
        want(self.store, org, audience_id, NOON + timedelta(days=1))


def want(store: Store, org: str, audience_id: str, until: datetime) -> Watch:
    """Watch an audience that nobody has watched, until a moment."""
    assert store.watches.propose(org, audience_id, "proposed", NOON, NEVER)
    watch = store.watches.accept(org, audience_id, "proposed", until, NEVER)
    assert watch is not None
    return watch


def happened(seq: int) -> list[Event]:
    """An event of this number."""
    return [Event(seq, Flip("contact-a", "acme/contact/a", Change.ENTERED), Cause.DATA, NOON + timedelta(seconds=seq))]


def leased_until(store: Store) -> Any:
    """Until when the one watch is leased."""
    [watch] = store.database["audience_watch"].find({})
    return watch["lease_until"]


def test_an_audience_that_takes_longer_to_record_than_a_lease_lasts_is_watched_all_the_same(
    monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    kind: Any = type(store.ledger)
    recorded: list[str] = []
    record = kind.record

    def slowly(self: Any, org: str, generation: str, *rest: Any) -> None:
        recorded.append(generation)
        begun = leased_until(store)
        eventually(lambda: leased_until(store) > begun + timedelta(seconds=2))
        record(self, org, generation, *rest)

    monkeypatch.setattr(kind, "record", slowly)
    for service in run_service("", store, watch_lease_seconds=1.5):
        client = service.client("acme")
        with watching(client, client.create(name="vips", filter=VIPS).id) as watcher:
            assert watcher.is_told_nothing()
    assert len(recorded) == 1


def test_a_lease_that_is_kept_is_nobody_elses_however_far_the_next_look_is(store: Store) -> None:
    world = World(store)
    world.want("segment-a")
    one, other = world.tracker(poll_seconds=100), world.tracker(poll_seconds=100)
    one.step()
    for _ in range(18):
        world.seconds += one.keep_seconds
        one.keep()
        other.step()
    assert world.looks == [("segment-a", EVERYTHING)]


def test_a_lease_that_is_kept_no_more_is_somebody_elses_when_it_has_ended(store: Store) -> None:
    world = World(store)
    world.want("segment-a")
    one, other = world.tracker(), world.tracker()
    one.step()
    world.seconds = 14
    other.step()
    assert len(world.looks) == 1
    world.seconds = 16
    other.step()
    assert len(world.looks) == 2
    one.keep()  # too late
    world.seconds = 20
    one.step()
    assert len(world.looks) == 2
    other.step()
    assert len(world.looks) == 3


def test_a_process_that_stops_gives_back_what_it_holds(store: Store) -> None:
    world = World(store)
    for name in ("segment-a", "segment-b"):
        world.want(name)
    one, other = world.tracker(), world.tracker()
    for _ in range(3):
        one.step()
    one.release()
    world.looks.clear()
    for _ in range(3):
        other.step()
    assert sorted(name for name, _ in world.looks) == ["segment-a", "segment-b"]


def test_all_that_is_free_is_claimed_at_once_and_looked_at_in_turn(store: Store) -> None:
    world = World(store)
    names = [f"segment-{number}" for number in range(5)]
    for name in names:
        world.want(name)
    tracker = world.tracker()
    for _ in range(6):
        tracker.step()
    assert sorted(name for name, _ in world.looks) == names


@pytest.mark.parametrize("error", [RuntimeError("a defect"), Overtaken()])
def test_a_round_that_fails_is_run_again_in_its_turn_and_in_nobodys_way(store: Store, error: Exception) -> None:
    world = World(store)
    for name in ("segment-a", "segment-b"):
        world.want(name)
    tracker = world.tracker()

    def run(watch: Watch) -> None:
        if watch.audience_id == "segment-a":
            raise error

    world.during = run
    for _ in range(40):
        tracker.step()
        world.seconds += 0.5
    counts = [sum(name == each for each, _ in world.looks) for name in ("segment-a", "segment-b")]
    assert min(counts) >= 8


def test_after_a_round_that_failed_everything_is_looked_at_since_its_changes_are_told_no_more(store: Store) -> None:
    world = World(store)
    world.want("segment-a")
    world.follows = True
    tracker = world.tracker()

    def succeed(_: Watch) -> Outlook:
        return Outlook(world.clock(), follows="contact")

    def fail(_: Watch) -> None:
        raise Overtaken

    for world.during in (succeed, fail, succeed):
        tracker.step()
        world.seconds += 5
    assert [look == EVERYTHING for _, look in world.looks] == [True, False, True]


def test_changes_are_asked_for_no_longer_than_the_watch_is_held(store: Store) -> None:
    world = World(store)
    for name in ("segment-a", "segment-b"):
        world.want(name)
    world.during = lambda _: Outlook(world.clock(), follows="contact")
    tracker = world.tracker()
    for _ in range(3):
        tracker.step()
    assert world.asking == 2
    store.database["audience_watch"].delete_one({"audience": "segment-a"})
    world.seconds = 5
    for _ in range(3):
        tracker.step()
    assert world.asking == 1
    tracker.release()
    assert world.asking == 0


def test_two_threads_of_a_process_run_no_round_of_one_audience_at_once(store: Store) -> None:
    world = World(store)
    world.want("segment-a")
    tracker = world.tracker()
    depth: list[int] = []

    def again(_: Watch) -> None:
        depth.append(1)
        if len(depth) < 3:
            world.seconds += 5
            tracker.step()

    world.during = again
    tracker.step()
    assert len(depth) == 1


def test_leases_are_kept_org_by_org(store: Store) -> None:
    for org in ("acme", "umbrella"):
        want(store, org, "segment-a", NOON)
    later = NOON + timedelta(hours=1)
    mine, theirs = (store.watches.claim(lease, NOON, later, NEVER) for lease in ("mine", "theirs"))
    assert mine is not None
    assert theirs is not None
    store.watches.keep([(*mine, "mine"), (*theirs, "mine")], later + timedelta(hours=1), NEVER)
    until = {row["lease"]: row["lease_until"] for row in store.database["audience_watch"].find({})}
    assert until == {"mine": later + timedelta(hours=1), "theirs": later}


def test_an_audience_is_wanted_until_the_latest_moment_that_anybody_named(store: Store) -> None:
    later = NOON + timedelta(hours=1)
    want(store, "acme", "segment-a", NOON)
    for until in (later, NOON):
        watch = store.watches.want("acme", "segment-a", until, NEVER)
        assert watch is not None
        assert watch.wanted_until == later


def test_how_far_a_generation_came_never_goes_back_nor_is_said_of_the_next_one(store: Store) -> None:
    wanted = want(store, "acme", "segment-a", NOON)
    store.watches.claim("mine", NOON, NOON + timedelta(hours=1), NEVER)
    store.watches.begin(wanted, "mine", "watch-1", NOON, "", NEVER)
    first = store.watches.get("acme", "segment-a", NEVER)
    assert first is not None
    for seq in (5, 3):
        store.watches.advance(first, happened(seq), NEVER)
    ended = store.watches.get("acme", "segment-a", NEVER)
    assert ended is not None
    assert ended.seq == 5
    with pytest.raises(Overtaken):
        store.watches.finish(first, "mine", 3, NOON + timedelta(hours=1), "", NEVER)
    store.watches.end(first, "mine", NOON, NEVER)
    with pytest.raises(Overtaken):
        store.watches.advance(first, happened(6), NEVER)
    with pytest.raises(Overtaken):
        store.watches.begin(first, "mine", "watch-2", NOON, "", NEVER)
    after = store.watches.get("acme", "segment-a", NEVER)
    assert after is not None
    assert (after.generation, after.seq, after.garbage) == ("", 0, ("watch-1",))
