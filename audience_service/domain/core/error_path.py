"""Field paths in errors, as seen from the request: `filter.where.$and[0].score`."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager

from audience_service.domain.core.errors import AudienceError, Violation

_MAX_KEY_LENGTH = 100
_BARE = re.compile(r"[$A-Za-z_][\w$]*")


@contextmanager
def prefix_error_path(prefix: str) -> Iterator[None]:
    """Prepend `prefix.` to the field paths of an AudienceError that the body raises."""
    try:
        yield
    except AudienceError as error:
        error.violations = tuple(Violation(f"{prefix}.{v.field}", v.description) for v in error.violations)
        raise


def at_key(field_path: str, key: str) -> str:
    """The field path of `key` in an object: `where.$and`, or `where["data.email"]` if the key is not a plain name."""
    shown = key if len(key) <= _MAX_KEY_LENGTH else f"{key[:_MAX_KEY_LENGTH]}..."
    return f"{field_path}.{shown}" if _BARE.fullmatch(key) else f"{field_path}[{json.dumps(shown, ensure_ascii=False)}]"


def at_index(field_path: str, index: int) -> str:
    """The field path of an element of a list: `where.$and[0]`."""
    return f"{field_path}[{index}]"
