"""Measures the service and a reference with the same result, alternating."""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from bench.processes import Server

DURATION_SECONDS = 2.0
"""The duration of a row, unless five pairs take longer."""
_MIN_PAIRS, _MAX_PAIRS = 5, 300
_MIN_SLOW_PAIRS, _SLOW_SECONDS = 3, 60.0
"""The pairs of a row whose first pairs took so long."""


@dataclass(frozen=True)
class Row:
    """One row of the table: a call of the service, and the reference to compare it with.

    Both callables return the result, and `measure` checks that the results are equal. `clear` deletes what a pair has
    written. Its time is not measured.
    """

    name: str
    reference_name: str
    service: Callable[[], Any]
    reference: Callable[[], Any]
    max_pairs: int = _MAX_PAIRS
    clear: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Timing:
    """Seconds of one side: the median, both quartiles, and the 95th percentile."""

    median: float
    low: float
    high: float
    p95: float

    @classmethod
    def of(cls, seconds: list[float]) -> "Timing":
        """The timing of at least two runs."""
        low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
        return cls(median, low, high, statistics.quantiles(seconds, n=20, method="inclusive")[-1])


@dataclass(frozen=True)
class Result:
    """The result of a row. `ratio` is the median over the pairs of the service's time / the reference's time."""

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
        """The result as a JSON object."""
        return asdict(self)


def measure(row: Row, server: Server, contacts: int, duration_seconds: float = DURATION_SECONDS) -> Result:
    """The result of a row: both sides run alternately, after a warm-up. Raises RuntimeError if their results differ.

    Slow rows exceed the duration: both sides run at least five times, or three times if these take over a minute.
    """
    results = row.service(), row.reference()
    if results[0] != results[1]:
        raise RuntimeError(f"{row.name}: the service returns {results[0]!r:.200}, the reference {results[1]!r:.200}")
    row.clear()
    server.reset_peak()
    service_seconds: list[float] = []
    reference_seconds: list[float] = []
    cpu = 0.0
    started_at = time.perf_counter()
    while True:
        elapsed, pairs = time.perf_counter() - started_at, len(service_seconds)
        min_pairs = _MIN_PAIRS if elapsed < _SLOW_SECONDS else _MIN_SLOW_PAIRS
        if pairs >= min_pairs and (pairs >= row.max_pairs or elapsed >= duration_seconds):
            break
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
