"""Places in errors, as they read from the request."""

from collections.abc import Iterator
from contextlib import contextmanager

from audience_service.domain.core.errors import AudienceError, Violation


@contextmanager
def prefix_error_path(prefix: str) -> Iterator[None]:
    """Put `prefix.` before the places that an error raised inside names, so that they read from the request."""
    try:
        yield
    except AudienceError as error:
        error.violations = tuple(Violation(f"{prefix}.{v.field}", v.description) for v in error.violations)
        raise
