"""One query for all who ask the same at the same time."""

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from audience_service.domain.caller import Deadline
from audience_service.domain.errors import OutOfTime

Answer = TypeVar("Answer")


@dataclass(slots=True)
class _Flight(Generic[Answer]):
    landed: threading.Event = field(default_factory=threading.Event)
    answers: list[Answer] = field(default_factory=list)
    error: Exception | None = None


class SingleFlight(Generic[Answer]):
    """Lets the first of identical calls work, and the others, while it does, wait for its answer.

    Its errors are theirs too, all but those that are its own: that it ran out of time, or was cut off. Then the next of
    them goes on in its place.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[Hashable, _Flight[Answer]] = {}

    def share(
        self, key: Hashable, deadline: Deadline, work: Callable[[], Answer], suits: Callable[[Answer], bool]
    ) -> Answer:
        """What `work` answers, here or in a call with the same key that is under way.

        `suits` says whether the answer of another will do; where not, the call works itself. Raises OutOfTime where the
        deadline passes meanwhile, besides what `work` raises.
        """
        while True:
            with self._lock:
                flight = self._flights.get(key)
                leads = flight is None
                if flight is None:
                    flight = self._flights[key] = _Flight()
            if leads:
                return self._lead(key, flight, work)
            if not flight.landed.wait(deadline.remaining()):
                raise OutOfTime("the deadline passed while an identical call was being answered")
            if flight.error:
                raise flight.error
            for answer in flight.answers:
                if suits(answer):
                    return answer

    def _lead(self, key: Hashable, flight: _Flight[Answer], work: Callable[[], Answer]) -> Answer:
        try:
            answer = work()
            flight.answers.append(answer)
            return answer
        except OutOfTime:
            raise
        except Exception as error:
            flight.error = error
            raise
        finally:
            with self._lock:
                del self._flights[key]
            flight.landed.set()
