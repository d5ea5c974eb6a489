"""Places in errors, as they read from the request."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager

from audience_service.domain.core.errors import AudienceError, Violation

_MAX_KEY_LENGTH = 100
_BARE = re.compile(r"[$A-Za-z_][\w$]*")


@contextmanager
def prefix_error_path(prefix: str) -> Iterator[None]:
    """Put `prefix.` before the places that an error raised inside names, so that they read from the request."""
    try:
        yield
    except AudienceError as error:
        error.violations = tuple(Violation(f"{prefix}.{v.field}", v.description) for v in error.violations)
        raise


def at_key(field_path: str, key: str) -> str:
    """The place of `key` in the object at `place`: `where.$and`, or `where["data.email"]` where it is no plain name."""
    shown = key if len(key) <= _MAX_KEY_LENGTH else f"{key[:_MAX_KEY_LENGTH]}..."
    return f"{field_path}.{shown}" if _BARE.fullmatch(key) else f"{field_path}[{json.dumps(shown, ensure_ascii=False)}]"


def at_index(field_path: str, index: int) -> str:
    """The place of an element of the list at `place`: `where.$and[0]`."""
    return f"{field_path}[{index}]"
