"""`python -m bench.related --uri URI`: conditions on related records, compared with hand-written pymongo.

The data is an org's contacts and their site visits and clicks over 90 days, skewed towards some contacts. Another org
has as many by contacts with the same ids. The reference groups the events by contact id and counts with these ids: a
`$lookup` per contact takes longer. A size is a number of contacts and of events, such as 1000000x3000000.
"""

import itertools
import random
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import click
import grpc
from google.protobuf.json_format import ParseDict
from pymongo import MongoClient
from rich.console import Console
from rich.progress import track

from audience_service.mongo.store import mongo_store
from audience_service.pb.audience.v1 import reach_service_pb2 as reach
from audience_service.pb.audience.v1 import resources_pb2 as resources
from audience_service.sample_data import NOW, sample_contacts
from bench import reference
from bench.__main__ import results_table
from bench.dataset import DATATYPES, LARGE
from bench.measure import Result, Row, measure
from bench.processes import audience_service
from bench.reference import Document
from bench.rows import Client

_BATCH_SIZE = 5_000
_TIMEOUT_SECONDS = 600.0
"""The deadline of a call. The service's own is shorter than a count of millions of records on a slow machine."""
_SINCE = NOW - timedelta(days=30)
VISITS = {"type": "visit", "url": "/pricing", "createdate": {"$gte": f"{_SINCE:%Y-%m-%d}T12:00:00Z"}}
_ON = {"local": "pk", "foreign": "contactId"}
_WEEK = timedelta(days=7)
_SPENT = 250
_BY_HAND = {"data.type": "visit", "data.url": "/pricing", "createdate": {"$gte": _SINCE}}


@click.command()
@click.option("--uri", required=True, help="The MongoDB to measure on.")
@click.option(
    "--database", default="bench_related", show_default=True, help="Retained for the next run of the same size."
)
@click.option("--sizes", default="100000x300000", show_default=True, help="Contacts x events, comma-separated.")
@click.option("--index/--no-index", default=True, show_default=True, help="Whether the advised index exists.")
def main(*, uri: str, database: str, sizes: str, index: bool) -> None:
    """Measure filters on related records and hand-written pymongo, alternating."""
    console = Console()
    results: list[Result] = []
    for size in sizes.split(","):
        contacts, events = map(int, size.split("x"))
        _prepare(uri, database, contacts, events, console)
        _set_index(uri, database, exists=index)
        with (
            ExitStack() as stack,
            MongoClient[Document](uri, tz_aware=True) as client,
            audience_service(uri, database) as server,
        ):
            caller = Client(stack.enter_context(grpc.insecure_channel(server.address)), LARGE)
            for row in _rows(caller, client[database]):
                with console.status(f"{row.name}, {contacts:,} contacts, {events:,} events"):
                    results.append(measure(row, server, contacts))
                console.print(f"{row.name}, {contacts:,} contacts: {results[-1].ratio:.2f} times the reference")
    click.echo(results_table(results))


def _rows(client: Client, database: reference.Contacts) -> Iterator[Row]:
    """Counts of contacts with one visit, with three and with none; and the stream of contacts with one."""
    grouped = "$group of their ids, count and find_one"
    for name, count, by_hand in (
        ("visited", {"$gte": 1}, partial(reference.reach_of_visitors, database, LARGE, _BY_HAND, 1)),
        ("visited three times", {"$gte": 3}, partial(reference.reach_of_visitors, database, LARGE, _BY_HAND, 3)),
        ("never visited", 0, partial(reference.reach_of_others, database, LARGE, _BY_HAND)),
    ):
        yield Row(f"EstimateReach, {name}", grouped, partial(_reach, client, _visits(count)), by_hand)
    yield from _behaviour_rows(client, database)
    yield Row(
        "StreamReach, visited, to the end",
        grouped,
        lambda: int(client.reach_stream(_visits({"$gte": 1}), first=False).count),
        partial(reference.reach_of_visitors, database, LARGE, _BY_HAND, 1),
    )
    yield Row(
        "StreamMembers, visited, ids",
        "$group of their ids, find_raw_batches",
        lambda: client.members(_visits({"$gte": 1}), []),
        partial(reference.visitors_raw, database, LARGE, _BY_HAND, 1),
    )


def _behaviour_rows(client: Client, database: reference.Contacts) -> Iterator[Row]:
    """Counts of contacts by a sum, by their last event, and by sequences."""
    types = {"data.type": {"$in": ["visit", "click"]}}
    events, by_hand = {"datatype": "event", "on": _ON}, partial(reference.reach_of_groups, database, LARGE)
    then = {"where": {"type": "click"}, "within": {"amount": _WEEK.days, "unit": "day"}}
    sequence = {**events, "where": {"type": "visit"}, "at": "createdate"}
    rows: tuple[tuple[str, Document, str, Document, list[Document]], ...] = (
        ("sum over an amount", {**events, "having": {"sum": {"amount": {"$gt": _SPENT}}}}, "$sum", {},
         reference.spent_stages(_SPENT)),
        ("last event", {**events, "last": {"by": "createdate", "where": {"url": "/pricing"}}}, "$top", {},
         reference.last_stages("/pricing")),
        ("visit, then a click", {**sequence, "then": then}, "two arrays", types,
         reference.sequence_stages("visit", "click", _WEEK, is_followed=True, now=NOW)),
        ("visit, then no click", {**sequence, "then": {**then, "count": 0}}, "two arrays", types,
         reference.sequence_stages("visit", "click", _WEEK, is_followed=False, now=datetime.now(UTC))),
    )  # fmt: skip
    for name, relation, grouped, match, stages in rows:
        yield Row(
            f"EstimateReach, {name}",
            f"$group by {grouped}, count and find_one",
            partial(_reach, client, {"$related": relation}),
            partial(by_hand, match, stages),
        )


def _visits(count: Any) -> dict[str, Any]:
    return {"$related": {"datatype": "event", "on": _ON, "where": VISITS, "count": count}}


def _reach(client: Client, where: dict[str, Any]) -> int:
    request = reach.EstimateReachRequest(filter=ParseDict({"datatype": "contact", "where": where}, resources.Filter()))
    response = client.unary("ReachService/EstimateReach", request, reach.EstimateReachResponse, _TIMEOUT_SECONDS)
    if not response.exact:
        raise RuntimeError("the reach is an estimate: the exact count took too long")
    return int(response.count)


def _prepare(uri: str, database: str, contacts: int, events: int, console: Console) -> None:
    """Load contacts and events, with the service's indexes.

    A database with the same numbers from an earlier run is unchanged.
    """
    store = mongo_store(uri, database)
    try:
        found = store.database
        is_complete = [found[name].count_documents({}) for name in ("contact", "event")] == [contacts, 2 * events]
        if is_complete and found["event"].find_one({"data.amount": {"$exists": True}}):
            return
        found.client.drop_database(database)
        for index in store.missing_indexes(DATATYPES, ("event",)):
            store.create_index(index)
        ids: list[str] = []
        records = sample_contacts(LARGE, contacts)
        for _ in track(range(0, contacts, _BATCH_SIZE), f"{contacts:,} contacts", console=console, transient=True):
            batch = list(itertools.islice(records, _BATCH_SIZE))
            ids += [record["pk"] for record in batch]
            store.database["contact"].insert_many(batch, ordered=False)
        for org in (LARGE, f"{LARGE}2"):
            visits = _events(org, events, ids)
            for _ in track(
                range(0, events, _BATCH_SIZE), f"{events:,} events of {org}", console=console, transient=True
            ):
                store.database["event"].insert_many(list(itertools.islice(visits, _BATCH_SIZE)), ordered=False)
    finally:
        store.close()


def _set_index(uri: str, database: str, *, exists: bool) -> None:
    """Create the index that ExplainFilter advises, or drop it."""
    index = [("data.contactId", 1), ("sk", 1)]
    with MongoClient[Document](uri) as client:
        events = client[database]["event"]
        if exists:
            events.create_index(index)
        else:
            for name in [name for name, found in events.index_information().items() if found["key"] == index]:
                events.drop_index(name)


def _events(org: str, count: int, ids: list[str]) -> Iterator[Document]:
    """The visits of an org. The square of a uniform random number skews them towards the first contacts."""
    rng = random.Random(f"{org}/11")  # noqa: S311 - samples, not secrets
    for number in range(count):
        # No two events of a contact have the same date.
        created_at: datetime = NOW - timedelta(minutes=rng.randrange(90 * 24 * 60), milliseconds=number % 60_000)
        yield {
            "pk": f"event-{number}",
            "sk": f"{org}/event/{number:09}",
            "datatype": "event",
            "version": 0,
            "createdate": created_at,
            "data": {
                "type": rng.choice(("visit", "visit", "click")),
                "amount": rng.randrange(100),
                "url": rng.choice(("/", "/pricing", "/about")),
                "contactId": ids[int(rng.random() ** 2 * len(ids))],
            },
        }


if __name__ == "__main__":
    main()
