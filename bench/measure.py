"""Timing two ways to one answer, in turn."""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from bench.processes import Server

_LEAST_PAIRS, _MOST_PAIRS, _SECONDS = 5, 300, 8.0


@dataclass(frozen=True)
class Row:
    """One line of the table: what the service is asked, and what stands beside it.

    Both callables give the answer, by which they are held to be the same. `clear` takes back what a pair has written,
    outside of what is timed.
    """

    name: str
    beside: str
    service: Callable[[], Any]
    reference: Callable[[], Any]
    most_pairs: int = _MOST_PAIRS
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
    beside: str
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
    server.forget_peak()
    ours: list[float] = []
    theirs: list[float] = []
    cpu = 0.0
    until = time.perf_counter() + _SECONDS
    while len(ours) < _LEAST_PAIRS or (len(ours) < row.most_pairs and time.perf_counter() < until):
        before = server.cpu_seconds()
        ours.append(_seconds(row.service))
        cpu += server.cpu_seconds() - before
        theirs.append(_seconds(row.reference))
        row.clear()
    return Result(
        name=row.name,
        beside=row.beside,
        contacts=contacts,
        pairs=len(ours),
        service=Timing.of(ours),
        reference=Timing.of(theirs),
        ratio=statistics.median(a / b for a, b in zip(ours, theirs, strict=True)),
        cpu_seconds_per_call=cpu / len(ours),
        peak_megabytes=server.peak_megabytes(),
    )


def _seconds(call: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun
