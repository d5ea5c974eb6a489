"""The threads that track: what they say where they cannot."""

from collections.abc import MutableMapping, Sequence
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from audience_service.domain.errors import StoreUnavailable
from audience_service.domain.watches.bell import Bell
from audience_service.domain.watches.tracker import Tracker
from audience_service.domain.watches.workers import Workers
from tests.waiting import eventually


class Failing:
    """A tracker that cannot do anything."""

    keep_seconds = 3_600.0

    def __init__(self, error: Exception) -> None:
        self._error = error

    def step(self) -> float:
        """Fail."""
        raise self._error

    def release(self) -> None:
        """Nothing is held."""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (StoreUnavailable("the database cannot be reached"), {"reason": "STORE_UNAVAILABLE"}),
        (defect := ZeroDivisionError("a defect"), {"exc_info": defect}),
    ],
)
def test_the_log_says_why_nothing_is_tracked(error: Exception, said: dict[str, Any]) -> None:
    workers = Workers(cast("Tracker", Failing(error)), Bell())
    with capture_logs() as lines:
        workers.start()
        eventually(lambda: bool(told(lines)))
        workers.stop()
    assert told(lines)[0] == {"event": "tracking failed", "log_level": "warning", **said}


def told(lines: Sequence[MutableMapping[str, Any]]) -> list[MutableMapping[str, Any]]:
    """The lines on tracking. Servers of other tests may log in the same process."""
    return [line for line in lines if line["event"] == "tracking failed"]
