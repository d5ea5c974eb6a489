"""One execution for identical concurrent calls."""

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import OutOfTime
from audience_service.observability import metrics

Result = TypeVar("Result")


@dataclass(slots=True)
class _InFlight(Generic[Result]):
    done: threading.Event = field(default_factory=threading.Event)
    results: list[Result] = field(default_factory=list)
    error: Exception | None = None


class SingleFlight(Generic[Result]):
    """Executes the first of identical concurrent calls; the others wait for its result.

    The waiting calls also raise the first call's error, with one exception. If the first call ran out of time or was
    cancelled, one of the waiting calls executes instead.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._in_flight: dict[Hashable, _InFlight[Result]] = {}

    def run(
        self, key: Hashable, deadline: Deadline, work: Callable[[], Result], is_acceptable: Callable[[Result], bool]
    ) -> Result:
        """The result of `work`, from this call or from a concurrent call with the same key.

        `is_acceptable` decides whether another call's result fits; if not, this call executes `work` itself. Raises
        the errors of `work`, and OutOfTime if the deadline passes during the wait.
        """
        while True:
            with self._lock:
                flight = self._in_flight.get(key)
                is_leader = flight is None
                if flight is None:
                    flight = self._in_flight[key] = _InFlight()
            if is_leader:
                metrics.count_lookup("identical_call", hit=False)
                return self._execute(key, flight, work)
            if not flight.done.wait(deadline.remaining()):
                raise OutOfTime("the deadline passed while an identical call was still executing; allow more time")
            if flight.error:
                raise flight.error
            for result in flight.results:
                if is_acceptable(result):
                    metrics.count_lookup("identical_call", hit=True)
                    return result

    def _execute(self, key: Hashable, flight: _InFlight[Result], work: Callable[[], Result]) -> Result:
        try:
            result = work()
            flight.results.append(result)
            return result
        except OutOfTime:
            raise
        except Exception as error:
            flight.error = error
            raise
        finally:
            with self._lock:
                del self._in_flight[key]
            flight.done.set()
