"""`python -m bench.indexes --uri URI`: the effect of the indexes that ExplainFilter advises for ten segments.

The benchmark creates each advised index, measures, and drops it. It changes nothing else in the database.
"""

import json
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click
import grpc
from google.protobuf.json_format import ParseDict
from pymongo import MongoClient
from pymongo.collection import Collection
from rich.console import Console

from audience_service.cli.token import mint
from audience_service.pb.audience.v1 import filter_service_pb2 as filters
from audience_service.pb.audience.v1 import reach_service_pb2 as reach
from audience_service.pb.audience.v1.filter_service_pb2_grpc import FilterServiceStub
from audience_service.pb.audience.v1.reach_service_pb2_grpc import ReachServiceStub
from audience_service.settings import Settings
from bench.dataset import LARGE, prepare
from bench.processes import KEY, Server, audience_service
from bench.reference import Document
from bench.table import Table

SEGMENTS: Mapping[str, Any] = {
    "hot leads of Japan": {"country": "JP", "score": {"$gte": 90}},
    "VIPs who opened in the last days": {"tags": "vip", "lastEmailOpenedAt": {"$gte": "2026-04-12"}},
    "evangelists in France and Germany": {"leadStage": "evangelist", "country": {"$in": ["FR", "DE"]}},
    "CEOs who came this week": {"jobTitle": "CEO", "createdAt": {"$gte": "2026-04-10"}},
    "addresses that begin with anna.": {"email": {"$regex": "^anna\\."}},
    "the young of Austin": {"address.city": "Austin", "birthday": {"$gte": "2005-06-01"}},
    "everyone in the US": {"country": "US"},
    "any score to speak of": {"score": {"$gte": 10}},
    "all but customers": {"leadStage": {"$ne": "customer"}},
    "addresses at example.com": {"email": {"$regex": "@example\\.com$"}},
}
"""Six selective filters, then four that are broad or cannot use an index."""

_REPEATS = 5
_TIMEOUT_SECONDS = 120


@dataclass(frozen=True)
class Measurement:
    """One measurement of a segment: its explanation, and the median seconds of EstimateReach."""

    explanation: Any
    reach_seconds: float

    def cells(self) -> list[str]:
        """The plan kind, documents read per match, and milliseconds of the explain and of EstimateReach."""
        plan = self.explanation.plan
        per_match = f"{plan.documents_examined_per_match:,.2f}"
        kind = filters.PlanKind.Name(plan.kind).removeprefix("PLAN_KIND_")
        return [kind, per_match, f"{plan.milliseconds:,} ms", f"{self.reach_seconds * 1000:,.0f} ms"]


class Caller:
    """Calls one server for the largest org."""

    def __init__(self, server: Server) -> None:
        self._channel = grpc.insecure_channel(server.address)
        settings = Settings(jwt_key=KEY, mongodb_uri=None)
        self._metadata = (("authorization", f"Bearer {mint(settings, org=LARGE, subject='bench')}"), ("orgid", LARGE))

    def measure(self, where: Any) -> Measurement:
        """The measurement of a filter."""
        selection = {"filter": {"datatype": "contact", "whereJson": json.dumps(where)}}
        explain = ParseDict(selection, filters.ExplainFilterRequest())
        estimate = ParseDict(selection, reach.EstimateReachRequest())
        stub, seconds = ReachServiceStub(self._channel), []
        explanation = FilterServiceStub(self._channel).ExplainFilter(
            explain, metadata=self._metadata, timeout=_TIMEOUT_SECONDS
        )
        for _ in range(_REPEATS):
            start = time.perf_counter()
            stub.EstimateReach(estimate, metadata=self._metadata, timeout=_TIMEOUT_SECONDS)
            seconds.append(time.perf_counter() - start)
        return Measurement(explanation, statistics.median(seconds))


@click.command()
@click.option("--uri", required=True, help="The MongoDB to measure on. It retains the databases bench_<contacts>.")
@click.option("--contacts", default=1_000_000, show_default=True, help="The number of contacts.")
def main(*, uri: str, contacts: int) -> None:
    """Explain ten segments before and after the creation of the advised index."""
    console = Console()
    name = _database(uri, contacts, console)
    columns = ("segment", "matched", "before", *_COLUMNS, "recommended index", "after", *_COLUMNS)
    table = Table(
        *columns, title=f"{contacts:,} contacts; the explain, and the median of {_REPEATS} calls of EstimateReach"
    )
    reasons = []
    with MongoClient[Document](uri) as client, audience_service(uri, name) as server:
        caller = Caller(server)
        for title, where in SEGMENTS.items():
            with console.status(title):
                before = caller.measure(where)
                advice = before.explanation.index_advice
                cells = [title, f"{before.explanation.plan.matched:,}", *before.cells()]
                cells += [", ".join(advice.index.fields) if advice.useful else "none"]
                if advice.useful:
                    with _index(client[name][advice.datatype], list(advice.index.fields)):
                        cells += caller.measure(where).cells()
            table.add_row(*cells)
            reasons.append(f"{title}: {advice.reason}")
    click.echo(table)
    for reason in reasons:
        click.echo(reason)


_COLUMNS = ("read", "explain", "EstimateReach")


def _database(uri: str, contacts: int, console: Console) -> str:
    """The name of a database with the contacts. A complete one is unchanged, since another benchmark may use it."""
    name = f"bench_{contacts}"
    with MongoClient[Document](uri) as client:
        is_complete = client[name]["contact"].estimated_document_count() == contacts
    return name if is_complete else prepare(uri, contacts, console)


@contextmanager
def _index(collection: Collection[Document], fields: list[str]) -> Iterator[None]:
    keys = [(field, 1) for field in fields]
    existing = set(collection.index_information())
    name = collection.create_index(keys)
    try:
        yield
    finally:
        if name not in existing:
            collection.drop_index(name)


if __name__ == "__main__":
    main()
