"""The cache of fields: one read for concurrent calls, a limited age, and a limited size."""

import threading
from collections.abc import Callable, Iterator

import pytest

from audience_service.domain.core.errors import OutOfTime
from audience_service.domain.filters.field_profile import FieldProfile
from audience_service.domain.schema import field_cache
from audience_service.domain.schema.field_cache import FieldCache, Fields

Read = Callable[[str, str], tuple[Fields, bool]]


class Reader:
    """Counts reads, and returns one field named after the org."""

    def __init__(self, *, is_complete: bool = False) -> None:
        self.calls: list[tuple[str, str]] = []
        self.time = 0.0
        self._is_complete = is_complete

    def read(self, org: str, datatype: str) -> tuple[Fields, bool]:
        self.calls.append((org, datatype))
        return {f"data.{org}": FieldProfile(f"data.{org}", {"int": 1.0}, 1.0)}, self._is_complete


@pytest.fixture
def make_cache() -> Iterator[Callable[[Read, Callable[[], float]], FieldCache]]:
    made: list[FieldCache] = []

    def make(read: Read, clock: Callable[[], float]) -> FieldCache:
        made.append(FieldCache(read, clock))
        return made[-1]

    yield make
    for cache in made:
        cache.close()


@pytest.mark.parametrize(("is_complete", "seconds"), [(False, 60), (True, 5)])
def test_fields_are_read_again_after_their_time(
    make_cache: Callable[[Read, Callable[[], float]], FieldCache], is_complete: bool, seconds: float
) -> None:
    """A sample of an org that fits one sample serves for a shorter time."""
    reader = Reader(is_complete=is_complete)
    cache = make_cache(reader.read, lambda: reader.time)
    assert list(cache.get("acme", "contact").result(40)) == ["data.acme"]
    reader.time = seconds - 0.1
    assert cache.get("acme", "contact").done()
    reader.time = seconds + 0.1
    cache.get("acme", "contact").result(40)
    assert reader.calls == [("acme", "contact")] * 2


def test_orgs_and_datatypes_have_fields_of_their_own(
    make_cache: Callable[[Read, Callable[[], float]], FieldCache],
) -> None:
    reader = Reader()
    cache = make_cache(reader.read, lambda: 0.0)
    for org, datatype in (("acme", "contact"), ("acme2", "contact"), ("acme", "order")):
        assert list(cache.get(org, datatype).result(40)) == [f"data.{org}"]
    assert len(reader.calls) == 3


def test_concurrent_calls_share_one_read(make_cache: Callable[[Read, Callable[[], float]], FieldCache]) -> None:
    reader, may_read = Reader(), threading.Event()

    def read(org: str, datatype: str) -> tuple[Fields, bool]:
        assert may_read.wait(40)
        return reader.read(org, datatype)

    cache = make_cache(read, lambda: 0.0)
    pending = [cache.get("acme", "contact") for _ in range(3)]
    may_read.set()
    assert [list(found.result(40)) for found in pending] == [["data.acme"]] * 3
    assert len(reader.calls) == 1


def test_the_number_of_cached_fields_is_limited(
    make_cache: Callable[[Read, Callable[[], float]], FieldCache], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The least recently used fields are dropped."""
    monkeypatch.setattr(field_cache, "_MAX_FIELDS", 2)
    reader = Reader()
    cache = make_cache(reader.read, lambda: 0.0)
    for org in ("a", "b", "a", "c", "a", "b"):
        cache.get(org, "contact").result(40)
    assert [org for org, _ in reader.calls] == ["a", "b", "c", "b"]


def test_a_failed_read_is_tried_again(make_cache: Callable[[Read, Callable[[], float]], FieldCache]) -> None:
    reader = Reader()

    def read(org: str, datatype: str) -> tuple[Fields, bool]:
        if not reader.calls:
            reader.calls.append((org, datatype))
            raise OutOfTime("the deadline has passed")
        return reader.read(org, datatype)

    cache = make_cache(read, lambda: 0.0)
    with pytest.raises(OutOfTime):
        cache.get("acme", "contact").result(40)
    assert list(cache.get("acme", "contact").result(40)) == ["data.acme"]
