"""Timing two ways to one answer, in turn."""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from bench.processes import Server

_MIN_PAIRS, _MAX_PAIRS, _DURATION_SECONDS = 5, 300, 8.0


@dataclass(frozen=True)
class Row:
    """One line of the table: what the service is asked, and what stands beside it.

    Both callables give the answer, by which they are held to be the same. `clear` takes back what a pair has written,
    outside of what is timed.
    """

    name: str
    reference_name: str
    service: Callable[[], Any]
    reference: Callable[[], Any]
    max_pairs: int = _MAX_PAIRS
    clear: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Timing:
    """Seconds of one side: the median, the middle half of the runs, and what 95 of 100 stay below."""

    median: float
    low: float
    high: float
    p95: float

    @classmethod
    def of(cls, seconds: list[float]) -> "Timing":
        """The timing of some runs, two at least."""
        low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
        return cls(median, low, high, statistics.quantiles(seconds, n=20, method="inclusive")[-1])


@dataclass(frozen=True)
class Result:
    """What a row has come to. `ratio` is the service's time over the reference's, the median of the pairs'."""

    name: str
    reference_name: str
    contacts: int
    pairs: int
    service: Timing
    reference: Timing
    ratio: float
    cpu_seconds_per_call: float
    peak_megabytes: float

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)


def measure(row: Row, server: Server, contacts: int) -> Result:
    """Run both sides in turn, after a warm-up of each. Raises RuntimeError where their answers differ."""
    answers = row.service(), row.reference()
    if answers[0] != answers[1]:
        raise RuntimeError(f"{row.name}: the service says {answers[0]!r:.200}, the reference {answers[1]!r:.200}")
    row.clear()
    server.reset_peak()
    service_seconds: list[float] = []
    reference_seconds: list[float] = []
    cpu = 0.0
    deadline = time.perf_counter() + _DURATION_SECONDS
    while len(service_seconds) < _MIN_PAIRS or (
        len(service_seconds) < row.max_pairs and time.perf_counter() < deadline
    ):
        before = server.cpu_seconds()
        service_seconds.append(_measure_seconds(row.service))
        cpu += server.cpu_seconds() - before
        reference_seconds.append(_measure_seconds(row.reference))
        row.clear()
    return Result(
        name=row.name,
        reference_name=row.reference_name,
        contacts=contacts,
        pairs=len(service_seconds),
        service=Timing.of(service_seconds),
        reference=Timing.of(reference_seconds),
        ratio=statistics.median(a / b for a, b in zip(service_seconds, reference_seconds, strict=True)),
        cpu_seconds_per_call=cpu / len(service_seconds),
        peak_megabytes=server.peak_megabytes(),
    )


def _measure_seconds(call: Callable[[], Any]) -> float:
    started_at = time.perf_counter()
    call()
    return time.perf_counter() - started_at
