"""The limit on watched audiences of an org, on every store."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from audience_service.domain.core.context import Caller, Deadline, RequestContext
from audience_service.domain.watch.errors import TooManyWatches
from audience_service.domain.watch.registry import WatchRegistry
from audience_service.mongo.store import Store
from tests.conftest import run_service
from tests.contract.test_watch import VIPS, watching
from tests.support.client import Refusal
from tests.support.fault_injection import FailAtStep

NEVER = Deadline(None)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
WEEK = timedelta(days=7)
CTX = RequestContext(Caller("test", "acme", frozenset()), NEVER)


def make_registry(watches: Any, max_watches: int = 2) -> WatchRegistry:
    """One process that watches audiences."""
    return WatchRegistry(watches, WEEK, max_watches, lambda: None, lambda: NOON)


def watched_audiences(store: Store) -> dict[str, Any]:
    """The watched audiences, with the expiry time of each."""
    return {row["sk"]: row["expires_at"] for row in store.database["audience_watch"].find({})}


def count_free(store: Store) -> int:
    """How many watches are free to claim."""
    claimed = [store.watches.acquire(f"lease-{n}", NOON, NOON + WEEK, NEVER) for n in range(5)]
    return sum(found is not None for found in claimed)


def test_a_watch_beyond_the_limit_is_refused_and_stores_nothing(store: Store) -> None:
    process = make_registry(store.watches)
    for name in ("segment-a", "segment-b"):
        assert process.touch(CTX, name).audience_id == name
    with pytest.raises(TooManyWatches, match="2 audiences"):
        process.touch(CTX, "segment-c")
    assert watched_audiences(store) == {f"acme/audience_watch/segment-{name}": NOON + WEEK for name in "ab"}
    assert count_free(store) == 2


def test_existing_watches_continue_after_the_limit_is_lowered(store: Store) -> None:
    for name in ("segment-a", "segment-b"):
        make_registry(store.watches).touch(CTX, name)
    later = WatchRegistry(store.watches, WEEK, 1, lambda: None, lambda: NOON + WEEK)
    for name in ("segment-a", "segment-b"):
        assert later.get(CTX, name).expires_at == NOON + WEEK
        assert later.touch(CTX, name).expires_at == NOON + 2 * WEEK


def test_the_watch_limit_applies_per_org(store: Store) -> None:
    for org in ("acme", "acme2", "acm"):
        make_registry(store.watches, 1).touch(RequestContext(Caller("test", org, frozenset()), NEVER), "segment-a")
    assert len(watched_audiences(store)) == 3


@pytest.mark.parametrize("method", ["create_provisional", "confirm"])
def test_concurrent_registrations_never_exceed_the_limit(store: Store, method: str) -> None:
    make_registry(store.watches).touch(CTX, "segment-a")

    def register_other() -> None:
        with suppress(TooManyWatches):
            make_registry(store.watches).touch(CTX, "segment-b")

    process = make_registry(FailAtStep(store.watches, method, before=register_other))
    with suppress(TooManyWatches):
        process.touch(CTX, "segment-c")
    assert len(watched_audiences(store)) == 2


def test_a_provisional_watch_is_not_acquired(store: Store) -> None:
    make_registry(store.watches, 1).touch(CTX, "segment-a")
    assert count_free(store) == 1
    claimed: list[int] = []

    def acquire_watch() -> None:
        store.database["audience_watch"].delete_one({"audience": "segment-a"})
        claimed.append(count_free(store))

    make_registry(FailAtStep(store.watches, "confirm", before=acquire_watch), 2).touch(CTX, "segment-b")
    assert (claimed, count_free(store)) == ([0], 1)


def test_touching_a_refused_provisional_watch_is_refused(store: Store) -> None:
    make_registry(store.watches, 1).touch(CTX, "segment-a")
    other = make_registry(store.watches, 1)

    def touch_watch() -> None:
        assert other.touch(CTX, "segment-b").watch_epoch == ""

    with pytest.raises(TooManyWatches):
        make_registry(Counting(store.watches, touch_watch), 1).touch(CTX, "segment-b")
    with pytest.raises(TooManyWatches):
        other.get(CTX, "segment-b")
    assert list(watched_audiences(store)) == ["acme/audience_watch/segment-a"]


def test_an_orphaned_provisional_watch_expires(store: Store) -> None:
    def die() -> None:
        raise RuntimeError("dies")

    with pytest.raises(RuntimeError):
        make_registry(FailAtStep(store.watches, "confirm", before=die)).touch(CTX, "segment-a")
    later = NOON + timedelta(seconds=15)
    assert store.watches.acquire("lease", later - timedelta(milliseconds=1), NOON + WEEK, NEVER) is None
    assert store.watches.acquire("lease", later, NOON + WEEK, NEVER) == ("acme", "segment-a")
    watch = store.watches.get("acme", "segment-a", NEVER)
    assert watch is not None
    store.watches.close_epoch(watch, "lease", later, NEVER)
    assert watched_audiences(store) == {}


def test_a_late_confirmation_keeps_the_lease_of_another_process(store: Store) -> None:
    later = NOON + timedelta(seconds=15)

    def acquire_watch() -> None:
        assert store.watches.acquire("theirs", later, later + WEEK, NEVER) == ("acme", "segment-a")

    assert (
        make_registry(FailAtStep(store.watches, "confirm", before=acquire_watch)).touch(CTX, "segment-a").expires_at
        == NOON + WEEK
    )
    assert store.watches.renew("acme", "segment-a", "theirs", later + WEEK, NEVER) is not None


@pytest.mark.slow
def test_watches_beyond_the_setting_receive_too_many_watches(store: Store, refused: Callable[..., Refusal]) -> None:
    for service in run_service("", store, max_watches_per_org=1):
        client = service.client("acme")
        first, second = (client.create(name=name, filter=VIPS) for name in ("first", "second"))
        with watching(client, first.id) as one, watching(client, first.id) as more:
            refusal = refused(partial(client.call, "WatchMembership", {"audienceId": second.id}))
            assert (refusal.code.name, refusal.info.reason) == ("RESOURCE_EXHAUSTED", "TOO_MANY_WATCHES")
            assert refusal.info.metadata == {"quota": "watches", "limit": "1"}
            assert one.has_no_events()
            assert more.has_no_events()


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
