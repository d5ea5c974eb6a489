"""The lock of the embedded store."""

import threading
from typing import Any

import pytest

from audience_service.mongo.embedded.locking import serialize


class Lock:
    """A reentrant lock that knows how often its thread has entered it."""

    def __init__(self) -> None:
        self.depth = 0
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()
        self.depth += 1

    def __exit__(self, *_: object) -> None:
        self.depth -= 1
        self._lock.release()


class Repository:
    """Returns from each method how often the lock is entered."""

    def __init__(self, database: Any) -> None:
        self.database = database

    def outer(self) -> int:
        return self.inner()

    def inner(self) -> int:
        return int(self.database.depth)


def test_every_method_call_takes_the_lock() -> None:
    """Methods that call each other take it again, so the lock must be reentrant."""
    lock: Any = Lock()
    repository = serialize(Repository, lock, lock)
    assert (repository.inner(), repository.outer(), lock.depth) == (1, 2, 0)


def test_a_failed_call_releases_the_lock() -> None:
    """The next call of another thread must not wait forever."""
    lock: Any = Lock()
    repository = serialize(Repository, lock, lock)
    repository.database = None
    with pytest.raises(AttributeError):
        repository.outer()
    assert lock.depth == 0


def test_a_serialized_repository_is_of_its_class() -> None:
    """Attributes stay accessible, and each store has a class of its own, which tests may patch."""
    lock: Any = Lock()
    first, second = serialize(Repository, lock, lock), serialize(Repository, lock, lock)
    assert isinstance(first, Repository)
    assert first.database is lock
    assert type(first) is not type(second)
