"""`python -m bench.platform_trees --uri URI`: searches of a platform's own tree of 250,000 nodes.

The file has the form of Google's geo targets: the packaged countries, subdivisions and cities, then invented postal
codes and neighbourhoods. The reference is a bare `find_one` by `_id`. A call reads at least four documents.
"""

import csv
import io
import random
import statistics
import time
from collections.abc import Iterator
from typing import Any

import click
import grpc

from audience_service.domain.core.context import Deadline
from audience_service.domain.targeting.taxonomy import packaged_taxonomies
from audience_service.mongo.store import Store, mongo_store
from audience_service.pb.audience.v1 import targeting_service_pb2 as pb
from audience_service.wiring.targeting import taxonomy_importer
from bench.processes import audience_service
from bench.rows import Client
from bench.table import Table

DATABASE = "bench_platform_trees"
CALLS = 1_000
HEAD = ("Criteria ID", "Name", "Canonical Name", "Parent ID", "Country Code", "Target Type", "Status")
TYPES = {"country": "Country", "subdivision": "State", "city": "City"}


@click.command()
@click.option("--uri", required=True, help="A MongoDB to write to.")
@click.option("--nodes", default=250_000, show_default=True, help="The number of nodes.")
def main(*, uri: str, nodes: int) -> None:
    """Import a tree, and measure searches by the beginnings of random words of it."""
    rows = list(_rows(nodes))
    store = mongo_store(uri, DATABASE)
    click.echo(_import(store, rows))
    draw = random.Random(7)  # noqa: S311
    words = [word for row in rows for word in row[1].split()]
    table = Table("request", "median", "95 %", "slowest", "find_one, median", title=f"{CALLS:,} calls each")
    with audience_service(uri, DATABASE) as server, grpc.insecure_channel(server.address) as channel:
        client = Client(channel, "bench")
        before = server.process.memory_info().rss
        for title, queries, conditions in _requests(draw, words):
            requests = [pb.ListLocationsRequest(platform="google", query=query, **conditions) for query in queries]
            table.add_row(title, *_measure(store, client, requests))
        after = server.process.memory_info().rss
        table.caption = f"Resident memory: {before / 1e6:.0f} MB before, {after / 1e6:.0f} MB after"
    click.echo(table)
    store.close()


def _rows(count: int) -> Iterator[tuple[str, ...]]:
    """The rows of the file, without its head."""
    yield from (row for row in [*_packaged_rows()][:count])
    places, draw = packaged_taxonomies()["places"], random.Random(7)  # noqa: S311
    cities = [number for number, kind in enumerate(places.kind_of) if kind == "city"]
    for number in range(count - sum(kind in TYPES for kind in places.kind_of)):
        city = draw.choice(cities)
        name = (
            f"{draw.randrange(100_000):05}"
            if number % 3
            else f"{places.name(draw.choice(cities))} {draw.choice(_PARTS)}"
        )
        type_ = "Postal Code" if number % 3 else "Neighborhood"
        country = places.country_of[city]
        yield str(9_000_000 + number), name, f"{name},{places.name(city)}", str(city + 1), country, type_, "Active"


_PARTS = ("North", "South", "East", "West", "Old Town", "Park", "Heights", "Village", "Station", "Harbour")


def _packaged_rows() -> Iterator[tuple[str, ...]]:
    places = packaged_taxonomies()["places"]
    for number in range(len(places)):
        node = places.node(number)
        if node.kind in TYPES:
            parent = places.parent_of[number]
            canonical = ",".join((node.name, *(above.name for above in reversed(node.ancestors))))
            above = str(parent + 1) if parent >= 0 else ""
            yield str(number + 1), node.name, canonical, above, node.country, TYPES[node.kind], "Active"


def _import(store: Store, rows: list[tuple[str, ...]]) -> str:
    file = io.StringIO()
    csv.writer(file).writerows([HEAD, *rows])
    importer, started_at = taxonomy_importer(store), time.perf_counter()
    files = {"geotargets.csv": file.getvalue()}
    matches = importer.match("google", files)
    matched_at = time.perf_counter()
    count = importer.publish("google", files, matches, Deadline(None))
    seconds = time.perf_counter() - matched_at
    return f"{count:,} nodes: read and matched in {matched_at - started_at:.1f} s, written in {seconds:.1f} s"


def _requests(draw: random.Random, words: list[str]) -> Iterator[tuple[str, list[str], dict[str, Any]]]:
    def beginnings(length: int) -> list[str]:
        return [draw.choice(words)[:length] for _ in range(CALLS)]

    for length in (1, 2, 3, 5, 8):
        yield f"{length} letters", beginnings(length), {}
    yield "3 letters, kind postal_code", beginnings(3), {"kind": "postal_code"}
    yield "3 letters, country US", beginnings(3), {"country": "US"}
    yield "3 letters, below the United States", beginnings(3), {"parent_id": _united_states()}
    yield "no query", [""] * CALLS, {}
    qualified = ("springfield, illinois", "paris, texas", "london uk", "springfield o", "park, california")
    yield "with surroundings", [draw.choice(qualified) for _ in range(CALLS)], {}


def _united_states() -> str:
    number = packaged_taxonomies()["places"].number("country-US")
    return f"location-google-{(number or 0) + 1}"


def _measure(store: Store, client: Client, requests: list[pb.ListLocationsRequest]) -> tuple[str, ...]:
    for request in requests[:50]:
        client.unary("TargetingService/ListLocations", request, pb.ListLocationsResponse)
    times, references = [], []
    for request in requests:
        started_at = time.perf_counter()
        client.unary("TargetingService/ListLocations", request, pb.ListLocationsResponse)
        times.append(time.perf_counter() - started_at)
        started_at = time.perf_counter()
        store.database["audience_platform_ids"].find_one({"_id": "google"}, {"version": 1})
        references.append(time.perf_counter() - started_at)
    figures = statistics.median(times), statistics.quantiles(times, n=20)[-1], max(times), statistics.median(references)
    return tuple(f"{seconds * 1000:.2f} ms" for seconds in figures)


if __name__ == "__main__":
    main()
