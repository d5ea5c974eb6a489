"""Stores of which some methods are replaced."""

from collections.abc import Callable
from typing import Any

from audience_service.mongo.store import Store


def with_methods(store: Store, **methods: Callable[..., Any]) -> Store:
    """The same store with other methods. Servers of other tests in this process keep theirs, which run in threads."""
    kind: Any = type("Replaced", (type(store),), {"__slots__": (), **methods})
    replaced: Store = kind(**{name: getattr(store, name) for name in store.__dataclass_fields__})
    return replaced
