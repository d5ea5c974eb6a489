"""`python -m bench.buckets [--uri URI]`: how evenly $bucket divides ids, and whether its salts are independent.

Ids of three kinds: nanoid, sequential, and imported (`shop-000123`, in runs with gaps). For each, the chi-squared
statistic of the 10,000 classes of last digits, and of 100 buckets. For 20 salts, the statistic of each pair: a table of
ten buckets by each of the two has 81 degrees of freedom if they are independent.

Without `--uri` the hash is MongoDB's, computed in Python. With it, the database computes the hash of the same ids.
"""

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

import click
import pymongo
from rich.console import Console

from audience_service.domain.filters.buckets import BucketRange, bucket_expression, bucket_of
from bench.table import Table

KINDS = ("nanoid", "sequential", "imported")
CLASSES, BUCKETS, SALT_BUCKETS = 10_000, 100, 10
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz-"
_BATCH_SIZE = 20_000

Classes = Callable[[str, int], Sequence[int]]
"""The bucket of each id, by a salt and the number of buckets."""


@click.command()
@click.option("--uri", help="A MongoDB that computes the hash; without it Python does.")
@click.option("--database", default="bench_buckets", show_default=True, help="Created, and dropped at the end.")
@click.option("--ids", default=1_000_000, show_default=True, help="Ids of each kind.")
@click.option("--salts", default=20, show_default=True, help="Salts to compare with each other.")
def main(*, uri: str | None, database: str, ids: int, salts: int) -> None:
    """Measure the evenness of buckets and the independence of salts."""
    console = Console()
    table = Table(
        "ids", f"{CLASSES:,} classes: chi-squared", "p", f"{BUCKETS} buckets: chi-squared", "p", "largest share"
    )
    independence = Table(
        "ids", "pairs of salts", "chi-squared: least", "median", "most", "p of the most", "p of the sum"
    )
    client: pymongo.MongoClient[dict[str, object]] | None = pymongo.MongoClient(uri) if uri else None
    try:
        for kind in KINDS:
            with console.status(f"{kind} ids"):
                values = list(create_ids(kind, ids))
                classes = _in_database(client, database, values) if client is not None else _in_python(values)
                table.add_row(kind, *_evenness(classes))
                independence.add_row(kind, *_independence(classes, [f"salt-{number}" for number in range(salts)]))
    finally:
        if client is not None:
            client.drop_database(database)
            client.close()
    click.echo(f"{table}\n{independence}")


def create_ids(kind: str, count: int) -> Iterator[str]:
    """Distinct ids of a kind, the same ones each time."""
    rng = random.Random(17)  # noqa: S311 - ids, not secrets
    number = 0
    for _ in range(count):
        number += 1 if kind == "sequential" or rng.random() < 0.999 else rng.randrange(1, 1_000)
        random_id = "".join(rng.choices(_ALPHABET, k=21)) if kind == "nanoid" else ""
        yield f"contact-{random_id}" if random_id else f"{'contact-' if kind == 'sequential' else 'shop-'}{number:06}"


def _in_python(values: Sequence[str]) -> Classes:
    return lambda salt, count: [bucket_of(value, salt, count) for value in values]


def _in_database(client: "pymongo.MongoClient[dict[str, object]]", database: str, values: Sequence[str]) -> Classes:
    collection = client[database]["ids"]
    collection.drop()
    for start in range(0, len(values), _BATCH_SIZE):
        batch = values[start : start + _BATCH_SIZE]
        collection.insert_many({"_id": start + place, "pk": value} for place, value in enumerate(batch))

    def classes(salt: str, count: int) -> Sequence[int]:
        bucket = bucket_expression("pk", BucketRange(salt, count, 0, count))
        found = collection.aggregate([{"$sort": {"_id": 1}}, {"$project": {"bucket": bucket}}])
        return [int(str(each["bucket"])) for each in found]

    return classes


def _evenness(classes: Classes) -> tuple[str, ...]:
    found = classes("spring-test", CLASSES)
    cells = []
    for count in (CLASSES, BUCKETS):  # a bucket is the class modulo the number of buckets
        counts = Counter(each % count for each in found)
        statistic = chi_squared([counts[bucket] for bucket in range(count)])
        cells += [f"{statistic:,.0f}", f"{p_value(statistic, count - 1):.2f}"]
    return (*cells, f"{max(counts.values()) / len(found):.3%}")


def _independence(classes: Classes, salts: Sequence[str]) -> tuple[str, ...]:
    found = [bytes(classes(salt, SALT_BUCKETS)) for salt in salts]
    freedom = (SALT_BUCKETS - 1) ** 2
    statistics = sorted(_chi_squared_of_pair(one, other) for one, other in combinations(found, 2))
    most = 1 - (1 - p_value(statistics[-1], freedom)) ** len(statistics)
    middle = statistics[len(statistics) // 2]
    overall = p_value(sum(statistics), freedom * len(statistics))
    cells = (f"{statistics[0]:.0f}", f"{middle:.0f}", f"{statistics[-1]:.0f}", f"{most:.2f}", f"{overall:.2f}")
    return (str(len(statistics)), *cells)


def _chi_squared_of_pair(one: bytes, other: bytes) -> float:
    """The statistic of the independence of two divisions of the same ids."""
    cells, rows, columns = Counter(zip(one, other, strict=True)), Counter(one), Counter(other)
    total = len(one)
    return sum(
        (cells[row, column] - expected) ** 2 / expected
        for row in range(SALT_BUCKETS)
        for column in range(SALT_BUCKETS)
        for expected in [rows[row] * columns[column] / total]
    )


def chi_squared(counts: Sequence[int]) -> float:
    """The chi-squared statistic of counts that should be equal."""
    expected = sum(counts) / len(counts)
    return sum((count - expected) ** 2 / expected for count in counts)


def p_value(statistic: float, freedom: int) -> float:
    """The probability of a greater chi-squared statistic, by Wilson and Hilferty's approximation."""
    spread = 2 / (9 * freedom)
    deviation = ((statistic / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)
    return math.erfc(deviation / math.sqrt(2)) / 2


if __name__ == "__main__":
    main()
