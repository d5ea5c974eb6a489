"""The lock of the embedded store.

In the embedded store a replacement takes two steps: remove, then insert. A concurrent reader could miss the record in
between. Repositories that replace records, or read those, therefore share one lock.
"""

import functools
import inspect
from contextlib import AbstractContextManager
from typing import Any, TypeVar

Repository = TypeVar("Repository")
Lock = AbstractContextManager[Any]


def serialize(kind: type[Repository], lock: Lock, *arguments: Any) -> Repository:
    """Return a repository of this class whose method calls are serialised with all that share the lock.

    The arguments are those of the class. The lock must be reentrant, because methods call each other.
    """
    serialized = type(f"Serialized{kind.__name__}", (_Serialized, kind), {"_lock": lock})
    repository: Repository = serialized(*arguments)
    return repository


class _Serialized:
    """Mixin that takes the lock for each call of a method."""

    _lock: Lock

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if not inspect.ismethod(value):
            return value
        lock = super().__getattribute__("_lock")

        @functools.wraps(value)
        def call(*args: Any, **kwargs: Any) -> Any:
            with lock:
                return value(*args, **kwargs)

        return call
