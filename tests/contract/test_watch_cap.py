"""How many audiences of an org are watched at once, on every store."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from audience_service.domain.caller import Call, Caller, Deadline
from audience_service.domain.watches.errors import TooManyWatches
from audience_service.domain.watches.wanted import Wanted
from audience_service.mongo.store import Store
from tests.client import Refusal
from tests.conftest import run_service
from tests.contract.test_watch import VIPS, watching
from tests.midst import Midst

NEVER = Deadline(None)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
WEEK = timedelta(days=7)
CALL = Call(Caller("test", "acme", frozenset()), NEVER)


def wanted(watches: Any, most: int = 2) -> Wanted:
    """One process that watches audiences."""
    return Wanted(watches, WEEK, most, lambda: None, lambda: NOON)


def watched(store: Store) -> dict[str, Any]:
    """The audiences that are watched, and until when each is wanted."""
    return {row["sk"]: row["wanted_until"] for row in store.database["audience_watch"].find({})}


def free(store: Store) -> int:
    """How many watches are free to claim."""
    claimed = [store.watches.claim(f"lease-{n}", NOON, NOON + WEEK, NEVER) for n in range(5)]
    return sum(found is not None for found in claimed)


def test_one_watch_more_than_may_be_is_refused_and_leaves_nothing(store: Store) -> None:
    process = wanted(store.watches)
    for name in ("segment-a", "segment-b"):
        assert process.want(CALL, name).audience_id == name
    with pytest.raises(TooManyWatches, match="2 audiences"):
        process.want(CALL, "segment-c")
    assert watched(store) == {f"acme/audience_watch/segment-{name}": NOON + WEEK for name in "ab"}
    assert free(store) == 2


def test_those_that_are_watched_go_on_though_fewer_may_be_now(store: Store) -> None:
    for name in ("segment-a", "segment-b"):
        wanted(store.watches).want(CALL, name)
    later = Wanted(store.watches, WEEK, 1, lambda: None, lambda: NOON + WEEK)
    for name in ("segment-a", "segment-b"):
        assert later.get(CALL, name).wanted_until == NOON + WEEK
        assert later.want(CALL, name).wanted_until == NOON + 2 * WEEK


def test_each_org_has_watches_of_its_own(store: Store) -> None:
    for org in ("acme", "acme2", "acm"):
        wanted(store.watches, 1).want(Call(Caller("test", org, frozenset()), NEVER), "segment-a")
    assert len(watched(store)) == 3


@pytest.mark.parametrize("method", ["propose", "accept"])
def test_of_two_that_take_the_last_place_at_once_none_is_one_too_many(store: Store, method: str) -> None:
    wanted(store.watches).want(CALL, "segment-a")

    def take() -> None:
        with suppress(TooManyWatches):
            wanted(store.watches).want(CALL, "segment-b")

    process = wanted(Midst(store.watches, method, before=take))
    with suppress(TooManyWatches):
        process.want(CALL, "segment-c")
    assert len(watched(store)) == 2


def test_a_watch_is_not_tracked_before_it_has_been_counted(store: Store) -> None:
    wanted(store.watches, 1).want(CALL, "segment-a")
    assert free(store) == 1
    claimed: list[int] = []

    def claim() -> None:
        store.database["audience_watch"].delete_one({"audience": "segment-a"})
        claimed.append(free(store))

    wanted(Midst(store.watches, "accept", before=claim), 2).want(CALL, "segment-b")
    assert (claimed, free(store)) == ([0], 1)


def test_one_that_is_wanted_while_it_is_counted_is_refused_with_it(store: Store) -> None:
    wanted(store.watches, 1).want(CALL, "segment-a")
    other = wanted(store.watches, 1)

    def want() -> None:
        assert other.want(CALL, "segment-b").generation == ""

    with pytest.raises(TooManyWatches):
        wanted(Counting(store.watches, want), 1).want(CALL, "segment-b")
    with pytest.raises(TooManyWatches):
        other.get(CALL, "segment-b")
    assert list(watched(store)) == ["acme/audience_watch/segment-a"]


def test_one_whose_process_died_while_it_was_counted_is_wanted_no_longer_than_counting_takes(store: Store) -> None:
    def die() -> None:
        raise RuntimeError("dies")

    with pytest.raises(RuntimeError):
        wanted(Midst(store.watches, "accept", before=die)).want(CALL, "segment-a")
    later = NOON + timedelta(seconds=15)
    assert store.watches.claim("lease", later - timedelta(milliseconds=1), NOON + WEEK, NEVER) is None
    assert store.watches.claim("lease", later, NOON + WEEK, NEVER) == ("acme", "segment-a")
    watch = store.watches.get("acme", "segment-a", NEVER)
    assert watch is not None
    store.watches.end(watch, "lease", later, NEVER)
    assert watched(store) == {}


def test_one_that_is_tracked_by_others_when_it_has_been_counted_at_last_stays_theirs(store: Store) -> None:
    later = NOON + timedelta(seconds=15)

    def claim() -> None:
        assert store.watches.claim("theirs", later, later + WEEK, NEVER) == ("acme", "segment-a")

    assert wanted(Midst(store.watches, "accept", before=claim)).want(CALL, "segment-a").wanted_until == NOON + WEEK
    assert store.watches.renew("acme", "segment-a", "theirs", later + WEEK, NEVER) is not None


def test_watches_beyond_the_setting_are_told_so(store: Store, refused: Callable[..., Refusal]) -> None:
    for service in run_service("", store, watches_per_org=1):
        client = service.client("acme")
        first, second = (client.create(name=name, filter=VIPS) for name in ("first", "second"))
        with watching(client, first.id) as one, watching(client, first.id) as more:
            refusal = refused(partial(client.call, "WatchMembership", {"audienceId": second.id}))
            assert (refusal.code.name, refusal.info.reason) == ("RESOURCE_EXHAUSTED", "TOO_MANY_WATCHES")
            assert refusal.info.metadata == {"limit": "1"}
            assert one.is_told_nothing()
            assert more.is_told_nothing()


class Counting:
    """A repository in which the first count finds room, and something happens before the second."""

    def __init__(self, watches: Any, before: Callable[[], None]) -> None:
        self._watches, self._before = watches, before
        self._counts = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._watches, name)

    def count(self, *args: Any) -> int:
        """Count."""
        self._counts += 1
        if self._counts == 1:
            return 0
        self._before()
        counted: int = self._watches.count(*args)
        return counted
