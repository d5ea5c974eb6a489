"""The threads that track: what they say where they cannot."""

from collections.abc import MutableMapping, Sequence
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from audience_service.domain.core.errors import StoreUnavailable
from audience_service.domain.watch.notifier import Notifier
from audience_service.domain.watch.worker_pool import WorkerPool
from tests.support.waiting import eventually


class Failing:
    """A tracker that cannot do anything."""

    renew_interval_seconds = 3_600.0

    def __init__(self, error: Exception) -> None:
        self._error = error

    def step(self) -> float:
        """Fail."""
        raise self._error

    def release(self) -> None:
        """There is no lease to release."""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (StoreUnavailable("the database cannot be reached"), {"reason": "STORE_UNAVAILABLE"}),
        (defect := ZeroDivisionError("a defect"), {"exc_info": defect}),
    ],
)
def test_the_log_contains_the_reason_of_a_failed_step(error: Exception, expected: dict[str, Any]) -> None:
    workers = WorkerPool(cast("Any", Failing(error)), Notifier())
    with capture_logs() as lines:
        workers.start()
        eventually(lambda: bool(received(lines)))
        workers.stop()
    assert received(lines)[0] == {"event": "watch scheduling failed", "log_level": "warning", **expected}


def received(lines: Sequence[MutableMapping[str, Any]]) -> list[MutableMapping[str, Any]]:
    """The lines on tracking. Servers of other tests may log in the same process."""
    return [line for line in lines if line["event"] == "watch scheduling failed"]
