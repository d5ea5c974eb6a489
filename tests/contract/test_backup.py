"""Backup and restore: a dump of the collections, restored into an empty database, is the same service."""

from typing import Any

import pytest
from pymongo import MongoClient

from audience_service.mongo.core.privileges import OWN_COLLECTIONS
from audience_service.mongo.store import mongo_store
from tests.conftest import mongo_database, run_service, seeded
from tests.support.client import Client

pytestmark = pytest.mark.slow


OPTIONS = ("unique", "sparse", "expireAfterSeconds")


def dump(database: Any) -> dict[str, tuple[list[Any], dict[str, Any]]]:
    """The documents and indexes of each collection, as mongodump reads them."""
    names = [*OWN_COLLECTIONS, "contact"]
    return {name: (list(database[name].find()), database[name].index_information()) for name in names}


def restore(database: Any, backup: dict[str, tuple[list[Any], dict[str, Any]]]) -> None:
    for name, (documents, indexes) in backup.items():
        if documents:
            database[name].insert_many(documents)
        for index, description in indexes.items():
            if index != "_id_":
                options = {
                    key: description[key] for key in ("unique", "sparse", "expireAfterSeconds") if key in description
                }
                database[name].create_index(description["key"], name=index, **options)


def contents(client: Client, ids: dict[str, str]) -> dict[str, Any]:
    """What callers see of the audiences."""

    def members(**selector: str) -> list[str]:
        return [member.id for batch in client.call("StreamMembers", selector) for member in batch.members]

    return {
        "dynamic": members(audienceId=ids["dynamic"]),
        "static": members(audienceId=ids["static"]),
        "snapshot": members(snapshotId=ids["snapshot"]),
        "segments": client.call("ListSegments", {}),
        "versions": client.call("ListSegmentVersions", {"id": ids["dynamic"]}),
        "usage": client.call("GetAudienceUsage", {"audienceId": ids["dynamic"]}),
    }


def create(client: Client, contacts: list[str]) -> dict[str, str]:
    dynamic = client.create(name="adults", filter={"datatype": "contact", "where": {"age": {"$gte": 18}}})
    static = client.create(name="chosen", type="static", contactIds=contacts[:3])
    use = {"audienceId": dynamic.id, "consumerKind": "campaign", "consumerId": "c1"}
    client.call("RegisterUse", {"use": use})
    snapshot = client.snapshot(audienceId=dynamic.id)
    return {"dynamic": dynamic.id, "static": static.id, "snapshot": snapshot.id}


def test_a_restored_backup_serves_the_same_audiences(real_uri: str) -> None:
    with mongo_database() as source, MongoClient[dict[str, Any]](real_uri, tz_aware=True) as admin:
        name = source.database.name
        target = f"{name}_restored"
        try:
            for service in run_service("mongodb", source):
                client = service.client("acme")
                ids = create(client, service.insert("acme", [{"data": {"age": age}} for age in range(10, 40)]))
                before = contents(client, ids)
                assert len(before["dynamic"]) == len(before["snapshot"]) == 22
                restore(admin[target], dump(admin[name]))
            restored = mongo_store(real_uri, target, seeded)
            missing = restored.missing_indexes(("contact",))
            assert {index.collection for index in missing} == {"subscriber"}  # the platform restores it
            for service in run_service("mongodb", restored):
                assert contents(service.client("acme"), ids) == before
        finally:
            admin.drop_database(target)
