"""`python -m bench.sampling --uri URI`: how often the confidence intervals contain the exact count, and their width.

The filters are random ranges over one or two fields, equally many in each stratum of selectivity. The exact counts come
from memory. The estimates are those at the start of StreamReach, to which EstimateReach falls back.
"""

import itertools
import math
import random
import statistics
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import click
from pymongo import MongoClient
from rich.console import Console
from rich.progress import track

from audience_service.domain.core.context import Deadline
from audience_service.domain.filters import Filter, FilterCompiler
from audience_service.domain.reach.progressive_count import ProgressiveCounter
from audience_service.mongo.store import Store, mongo_store
from bench.dataset import LARGE
from bench.reference import Document, in_org
from bench.table import Table

STRATA = ((1e-4, 1e-3), (1e-3, 0.01), (0.01, 0.1), (0.1, 0.5), (0.5, 1.0))
SAMPLES = (500, 4_000)
NO_DEADLINE = Deadline(None)
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BATCH_SIZE = 10_000
_VALUE_COUNT = 1_000_000

Row = tuple[int, ...]


@dataclass
class Population:
    """The records of an org that are not archived, in memory: the values of some fields, all of them integers."""

    name: str
    org: str
    fields: tuple[str, ...]
    rows: list[Row]
    sorted_columns: list[list[int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sorted_columns = [sorted(row[column] for row in self.rows) for column in range(len(self.fields))]

    def draw(self, share: float, rng: random.Random) -> tuple[Document, int]:
        """A filter that about this share of the records meets, and its exact count."""
        columns = rng.sample(range(len(self.fields)), rng.choice((1, 1, 2)))
        bounds = [self._window(column, share ** (1 / len(columns)), rng) for column in columns]
        where = {self.fields[column]: {"$gte": low, "$lt": high} for column, low, high in bounds}
        if len(bounds) == 1:
            [(column, low, high)] = bounds
            ordered = self.sorted_columns[column]
            return where, bisect_left(ordered, high) - bisect_left(ordered, low)
        return where, sum(all(low <= row[column] < high for column, low, high in bounds) for row in self.rows)

    def _window(self, column: int, share: float, rng: random.Random) -> tuple[int, int, int]:
        ordered = self.sorted_columns[column]
        length = max(1, round(share * len(ordered)))
        start = rng.randrange(len(ordered) - length + 1)
        end = start + length
        return column, ordered[start], ordered[end] if end < len(ordered) else ordered[-1] + 1


@dataclass
class Coverage:
    """The results of the estimates of one stratum, from samples of one size."""

    covered: int = 0
    widths: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


@click.command()
@click.option("--uri", required=True, help="The MongoDB to measure on.")
@click.option("--database", default="bench_sampling", show_default=True, help="Created, and dropped at the end.")
@click.option("--contacts", default=100_000, show_default=True, help="Contacts for each kind of id.")
@click.option("--filters", default=1_000, show_default=True, help="Filters for each kind of id.")
@click.option("--also", "extra", default="", help="Also measure the large org of this database of `make bench`.")
def main(*, uri: str, database: str, contacts: int, filters: int, extra: str) -> None:
    """Measure coverage and width of sampled estimates for three kinds of ids."""
    console = Console()
    rng = random.Random(17)  # noqa: S311 - filters, not secrets
    store = mongo_store(uri, database)
    try:
        for index in store.missing_indexes(("contact",)):
            store.create_index(index)
        for name in ("nanoid", "sequential", "imports"):
            population = _create_population(store, name, contacts, rng, console)
            click.echo(_table(population, _measure(store, population, filters, rng, console)))
    finally:
        store.database.client.drop_database(database)
        store.close()
    if extra:
        store = mongo_store(uri, extra)
        population = _read_sample_contacts(uri, extra, console)
        click.echo(_table(population, _measure(store, population, filters, rng, console)))
        store.close()


def _create_population(store: Store, name: str, count: int, rng: random.Random, console: Console) -> Population:
    """Contacts with three fields: a scattered one, one that neighbours share, and one that increases with the id."""
    fields = ("spread", "import", "day")
    rows = list(itertools.islice(_rows(count, rng), count))
    # nanoid: the records of an import are scattered.
    # sequential: ids are numbers in order of creation, so the records of an import are adjacent.
    # imports: as sequential, but with the import's number as prefix, so that imports have a random order.
    keys = [f"{number:012d}" for number in range(count)]
    if name == "nanoid":
        keys = ["".join(rng.choices(_ALPHABET, k=21)) for _ in range(count)]
    if name == "imports":
        keys = [f"{row[1]:06d}-{number:012d}" for number, row in enumerate(rows)]
    batches = range(0, count, _BATCH_SIZE)
    for start in track(batches, f"{count:,} contacts, {name}", console=console, transient=True):
        store.insert(
            [_record(name, keys[at], fields, rows[at]) for at in range(start, min(start + _BATCH_SIZE, count))]
        )
    return Population(f"{name}, {count:,}", name, fields, rows)


def _rows(count: int, rng: random.Random) -> Iterator[Row]:
    number = 0
    while number < count:
        shared = rng.randrange(_VALUE_COUNT)
        for _ in range(min(int(10 ** rng.uniform(1, 3.5)), count)):
            # Periodic attributes are the worst case of systematic sampling.
            spread = rng.randrange(_VALUE_COUNT) if number % 3 else number % 100 * (_VALUE_COUNT // 100)
            yield spread, shared, number * _VALUE_COUNT // count
            number += 1


def _record(org: str, key: str, fields: Sequence[str], row: Row) -> Document:
    envelope = {"pk": f"contact-{key}", "sk": f"{org}/contact/{key}", "datatype": "contact", "state": "active"}
    return {**envelope, "version": 0, "data": dict(zip(fields, row, strict=True))}


def _read_sample_contacts(uri: str, database: str, console: Console) -> Population:
    """The large org of `make bench`: nanoid keys, sample contacts."""
    with MongoClient[Document](uri) as client, console.status("reading the sample contacts"):
        found = client[database]["contact"].find(in_org(LARGE, {}), {"_id": 0, "data.score": 1, "data.createdAt": 1})
        rows: list[Row] = [(record["data"]["score"], _to_millis(record["data"]["createdAt"])) for record in found]
    return Population(f"sample contacts, {len(rows):,}", LARGE, ("score", "createdAt"), rows)


def _to_millis(value: datetime) -> int:
    return round(value.replace(tzinfo=UTC).timestamp() * 1000)


def _measure(
    store: Store, population: Population, filters: int, rng: random.Random, console: Console
) -> dict[tuple[float, float], dict[int, Coverage]]:
    compiler = FilterCompiler(["contact"])
    coverages = {stratum: {size: Coverage() for size in SAMPLES} for stratum in STRATA}
    repeats = range(filters // len(STRATA))
    for _, stratum in track(
        list(itertools.product(repeats, STRATA)), f"filters over {population.name}", console=console, transient=True
    ):
        share = math.exp(rng.uniform(math.log(stratum[0]), math.log(stratum[1])))
        where, exact = population.draw(share, rng)
        compiled = compiler.compile(Filter("contact", _convert_dates(where)))
        for size, coverage in coverages[stratum].items():
            started_at = time.perf_counter()
            step = ProgressiveCounter(store.slices, population.org, compiled, NO_DEADLINE, rng).estimate_from_sample(
                size
            )
            coverage.seconds.append(time.perf_counter() - started_at)
            coverage.covered += step.estimate.lower_bound <= exact <= step.estimate.upper_bound
            coverage.widths.append((step.estimate.upper_bound - step.estimate.lower_bound) / max(exact, 1))
    return coverages


def _convert_dates(where: Document) -> Document:
    """The filter with dates instead of milliseconds."""

    def to_value(name: str, value: int) -> Any:
        return datetime.fromtimestamp(value / 1000, UTC) if name == "createdAt" else value

    return {name: {key: to_value(name, value) for key, value in bounds.items()} for name, bounds in where.items()}


def _table(population: Population, coverages: dict[tuple[float, float], dict[int, Coverage]]) -> Table:
    columns = [
        f"{name}, {size:,} records" for size in SAMPLES for name in ("coverage", "relative width", "median time")
    ]
    table = Table("share of the org", "filters", *columns, title=population.name)
    for (low, high), by_size in [*coverages.items(), ((0, 1), _merge_strata(coverages))]:
        cells: list[str] = []
        for coverage in by_size.values():
            count = len(coverage.widths)
            cells += [
                f"{coverage.covered / count:.1%}",
                f"{statistics.median(coverage.widths):.2f}",
                f"{statistics.median(coverage.seconds) * 1000:.0f} ms",
            ]
        table.add_row("all" if (low, high) == (0, 1) else f"{low:.2%} to {high:.2%}", str(count), *cells)
    return table


def _merge_strata(coverages: dict[tuple[float, float], dict[int, Coverage]]) -> dict[int, Coverage]:
    return {
        size: Coverage(
            sum(by_size[size].covered for by_size in coverages.values()),
            [width for by_size in coverages.values() for width in by_size[size].widths],
            [seconds for by_size in coverages.values() for seconds in by_size[size].seconds],
        )
        for size in SAMPLES
    }


if __name__ == "__main__":
    main()
