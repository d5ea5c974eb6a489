"""`python -m bench.sampling --uri URI`: how often sampled intervals hold the exact count, and how wide they are.

Filters are ranges over one field or two, drawn so that each stratum of selectivity has as many. What they count exactly
is found in memory. Estimates are what StreamReach begins with and what EstimateReach falls back to.
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
from rich.table import Table

from audience_service.domain.caller import Deadline
from audience_service.domain.filters import Filter, FilterCompiler
from audience_service.domain.reach.narrowing import Narrowing
from audience_service.mongo.store import Store, mongo_store
from bench.dataset import LARGE
from bench.reference import Document, in_org

STRATA = ((1e-4, 1e-3), (1e-3, 0.01), (0.01, 0.1), (0.1, 0.5), (0.5, 1.0))
SAMPLES = (500, 4_000)
NEVER = Deadline(None)
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BATCH = 10_000
_VALUES = 1_000_000

Row = tuple[int, ...]


@dataclass
class Population:
    """An org's living records in memory: of each the values of some fields, all of them whole numbers."""

    name: str
    org: str
    fields: tuple[str, ...]
    rows: list[Row]
    ranked: list[list[int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ranked = [sorted(row[place] for row in self.rows) for place in range(len(self.fields))]

    def draw(self, share: float, chance: random.Random) -> tuple[Document, int]:
        """A filter that about this share of the records meets, and how many do."""
        places = chance.sample(range(len(self.fields)), chance.choice((1, 1, 2)))
        bounds = [self._window(place, share ** (1 / len(places)), chance) for place in places]
        where = {self.fields[place]: {"$gte": low, "$lt": high} for place, low, high in bounds}
        if len(bounds) == 1:
            [(place, low, high)] = bounds
            return where, bisect_left(self.ranked[place], high) - bisect_left(self.ranked[place], low)
        return where, sum(all(low <= row[place] < high for place, low, high in bounds) for row in self.rows)

    def _window(self, place: int, share: float, chance: random.Random) -> tuple[int, int, int]:
        ranked = self.ranked[place]
        length = max(1, round(share * len(ranked)))
        start = chance.randrange(len(ranked) - length + 1)
        end = start + length
        return place, ranked[start], ranked[end] if end < len(ranked) else ranked[-1] + 1


@dataclass
class Tally:
    """What has become of the estimates of one stratum, from samples of one size."""

    held: int = 0
    widths: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


@click.command()
@click.option("--uri", required=True, help="The MongoDB to measure on.")
@click.option("--database", default="bench_sampling", show_default=True, help="Made, and dropped in the end.")
@click.option("--contacts", default=100_000, show_default=True, help="Of each distribution of ids.")
@click.option("--filters", default=1_000, show_default=True, help="For each distribution.")
@click.option("--also", default="", help="A database of `make bench` whose large org is measured too.")
def main(*, uri: str, database: str, contacts: int, filters: int, also: str) -> None:
    """Measure coverage and width of sampled estimates over three ways in which ids are made."""
    console = Console(width=150)
    chance = random.Random(17)  # noqa: S311 - filters, not secrets
    store = mongo_store(uri, database)
    try:
        for index in store.missing_indexes(("contact",)):
            store.create_index(index)
        for name in ("nanoid", "sequential", "imports"):
            population = _made(store, name, contacts, chance, console)
            console.print(_table(population, _measured(store, population, filters, chance, console)))
    finally:
        store.database.client.drop_database(database)
        store.close()
    if also:
        store = mongo_store(uri, also)
        population = _read(uri, also, console)
        console.print(_table(population, _measured(store, population, filters, chance, console)))
        store.close()


def _made(store: Store, name: str, count: int, chance: random.Random, console: Console) -> Population:
    """Contacts with a field of any value, one that runs of neighbours share, and one that rises with the id."""
    fields = ("spread", "import", "day")
    rows = list(itertools.islice(_rows(count, chance), count))
    # nanoid: the records of an import lie anywhere. sequential: side by side, and ids are numbers in order of creation.
    # imports: likewise, and ids begin with what names the import, so that imports lie in any order.
    keys = [f"{number:012d}" for number in range(count)]
    if name == "nanoid":
        keys = ["".join(chance.choices(_ALPHABET, k=21)) for _ in range(count)]
    if name == "imports":
        keys = [f"{row[1]:06d}-{number:012d}" for number, row in enumerate(rows)]
    batches = range(0, count, _BATCH)
    for start in track(batches, f"{count:,} contacts, {name}", console=console, transient=True):
        store.insert([_record(name, keys[at], fields, rows[at]) for at in range(start, min(start + _BATCH, count))])
    return Population(f"{name}, {count:,}", name, fields, rows)


def _rows(count: int, chance: random.Random) -> Iterator[Row]:
    number = 0
    while number < count:
        shared = chance.randrange(_VALUES)
        for _ in range(min(int(10 ** chance.uniform(1, 3.5)), count)):
            # Attributes that come in cycles are the trap of samples at equal distances.
            spread = chance.randrange(_VALUES) if number % 3 else number % 100 * (_VALUES // 100)
            yield spread, shared, number * _VALUES // count
            number += 1


def _record(org: str, key: str, fields: Sequence[str], row: Row) -> Document:
    envelope = {"pk": f"contact-{key}", "sk": f"{org}/contact/{key}", "datatype": "contact", "state": "active"}
    return {**envelope, "version": 0, "data": dict(zip(fields, row, strict=True))}


def _read(uri: str, database: str, console: Console) -> Population:
    """The large org of `make bench`: nanoid keys, sample contacts."""
    with MongoClient[Document](uri) as client, console.status("reading the sample contacts"):
        found = client[database]["contact"].find(in_org(LARGE, {}), {"_id": 0, "data.score": 1, "data.createdAt": 1})
        rows: list[Row] = [(record["data"]["score"], _millis(record["data"]["createdAt"])) for record in found]
    return Population(f"sample contacts, {len(rows):,}", LARGE, ("score", "createdAt"), rows)


def _millis(moment: datetime) -> int:
    return round(moment.replace(tzinfo=UTC).timestamp() * 1000)


def _measured(
    store: Store, population: Population, filters: int, chance: random.Random, console: Console
) -> dict[tuple[float, float], dict[int, Tally]]:
    compiler = FilterCompiler(["contact"])
    tallies = {stratum: {size: Tally() for size in SAMPLES} for stratum in STRATA}
    rounds = range(filters // len(STRATA))
    for _, stratum in track(
        list(itertools.product(rounds, STRATA)), f"filters over {population.name}", console=console, transient=True
    ):
        share = math.exp(chance.uniform(math.log(stratum[0]), math.log(stratum[1])))
        where, exact = population.draw(share, chance)
        compiled = compiler.compile(Filter("contact", _dated(where)))
        for size, tally in tallies[stratum].items():
            begun = time.perf_counter()
            step = Narrowing(store.slices, population.org, compiled, NEVER, chance).sampled(size)
            tally.seconds.append(time.perf_counter() - begun)
            tally.held += step.estimate.lower <= exact <= step.estimate.upper
            tally.widths.append((step.estimate.upper - step.estimate.lower) / max(exact, 1))
    return tallies


def _dated(where: Document) -> Document:
    """The filter as callers write it: dates are dates."""

    def spelt(name: str, value: int) -> Any:
        return datetime.fromtimestamp(value / 1000, UTC) if name == "createdAt" else value

    return {name: {key: spelt(name, value) for key, value in bounds.items()} for name, bounds in where.items()}


def _table(population: Population, tallies: dict[tuple[float, float], dict[int, Tally]]) -> Table:
    columns = [f"{what}, {size:,} records" for size in SAMPLES for what in ("holds", "relative width", "median time")]
    table = Table("share of the org", "filters", *columns, title=population.name)
    for (low, high), by_size in [*tallies.items(), ((0, 1), _all(tallies))]:
        cells: list[str] = []
        for tally in by_size.values():
            count = len(tally.widths)
            cells += [
                f"{tally.held / count:.1%}",
                f"{statistics.median(tally.widths):.2f}",
                f"{statistics.median(tally.seconds) * 1000:.0f} ms",
            ]
        table.add_row("all" if (low, high) == (0, 1) else f"{low:.2%} to {high:.2%}", str(count), *cells)
    return table


def _all(tallies: dict[tuple[float, float], dict[int, Tally]]) -> dict[int, Tally]:
    return {
        size: Tally(
            sum(by_size[size].held for by_size in tallies.values()),
            [width for by_size in tallies.values() for width in by_size[size].widths],
            [seconds for by_size in tallies.values() for seconds in by_size[size].seconds],
        )
        for size in SAMPLES
    }


if __name__ == "__main__":
    main()
