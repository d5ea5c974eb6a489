"""One query for all who ask the same at the same time."""

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import OutOfTime

Result = TypeVar("Result")


@dataclass(slots=True)
class _InFlight(Generic[Result]):
    done: threading.Event = field(default_factory=threading.Event)
    results: list[Result] = field(default_factory=list)
    error: Exception | None = None


class SingleFlight(Generic[Result]):
    """Lets the first of identical calls work, and the others, while it does, wait for its answer.

    Its errors are theirs too, all but those that are its own: that it ran out of time, or was cut off. Then the next of
    them goes on in its place.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._in_flight: dict[Hashable, _InFlight[Result]] = {}

    def run(
        self, key: Hashable, deadline: Deadline, work: Callable[[], Result], is_acceptable: Callable[[Result], bool]
    ) -> Result:
        """What `work` answers, here or in a call with the same key that is under way.

        `suits` says whether the answer of another will do; where not, the call works itself. Raises OutOfTime where the
        deadline passes meanwhile, besides what `work` raises.
        """
        while True:
            with self._lock:
                flight = self._in_flight.get(key)
                is_leader = flight is None
                if flight is None:
                    flight = self._in_flight[key] = _InFlight()
            if is_leader:
                return self._execute(key, flight, work)
            if not flight.done.wait(deadline.remaining()):
                raise OutOfTime("the deadline passed while an identical call was being answered")
            if flight.error:
                raise flight.error
            for result in flight.results:
                if is_acceptable(result):
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
