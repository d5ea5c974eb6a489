"""A linter for tests of services without samples."""

from typing import Any


class NoLinter:
    """A FilterLinter that finds no warnings."""

    def begin(self, ctx: Any, audience_filter: Any) -> None:
        """No filter has warnings."""
