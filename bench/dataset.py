"""Sample contacts of a large, a medium and a small org. The large org's name is a prefix of the others."""

import itertools

from pymongo import MongoClient
from pymongo.database import Database
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from audience_service.mongo.store import mongo_store
from audience_service.sample_data import sample_contacts
from bench.reference import Document

LARGE = "bench"
SHARES = {LARGE: 0.7, "bench-2": 0.2, "bench2": 0.1}
DATATYPES = ("contact", "lead", "customer")
_BATCH_SIZE = 5_000


def prepare(uri: str, size: int, console: Console, name: str = "") -> str:
    """The name of a database with `size` contacts: `name`, or `bench_<size>`.

    It is loaded unless an earlier run has completed it. Deletes the segments and lists of earlier runs.
    """
    name = name or f"bench_{size}"
    store = mongo_store(uri, name)
    try:
        for collection in ("segment", "segment_version", "audience_member", "audience_use"):
            store.database[collection].drop()  # deleted documents would slow down later runs
        for index in store.missing_indexes(DATATYPES):
            store.create_index(index)
        target_counts = {org: round(size * share) for org, share in SHARES.items()}
        stored_counts = {org: store.database["contact"].count_documents(_org_match(org)) for org in SHARES}
        if stored_counts != target_counts:
            store.database["contact"].delete_many({})
            _load(uri, name, target_counts, console)
    finally:
        store.close()
    return name


def _load(uri: str, name: str, target_counts: dict[str, int], console: Console) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with MongoClient[Document](uri) as client, Progress(*columns, console=console) as progress:
        contacts: Database[Document] = client[name]
        for org, count in target_counts.items():
            task = progress.add_task(f"contacts of {org}", total=count)
            records = sample_contacts(org, count)
            while batch := list(itertools.islice(records, _BATCH_SIZE)):
                contacts["contact"].insert_many(batch, ordered=False)
                progress.advance(task, len(batch))


def _org_match(org: str) -> Document:
    return {"sk": {"$gte": f"{org}/", "$lt": f"{org}0"}}
