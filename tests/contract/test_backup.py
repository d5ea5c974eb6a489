"""Backup and restore: a dump of the collections, restored into an empty database, is the same service."""

import re
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from audience_service.mongo.store import mongo_store
from tests.conftest import mongo_database, run_service, seeded
from tests.support.client import Client
from tests.support.command import run
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow


PAGE = Path(__file__).parents[2] / "docs/how-to/backup.md"
CODE: dict[str, Any] = {}
exec(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)[0], CODE)  # noqa: S102 - it is of this repository
dump, restore = CODE["dump"], CODE["restore"]


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


def test_a_restored_backup_serves_the_same_audiences(real_uri: str, tmp_path: Path) -> None:
    with mongo_database() as source, MongoClient[dict[str, Any]](real_uri, tz_aware=True) as admin:
        name = source.database.name
        target = f"{name}_restored"
        try:
            for service in run_service("mongodb", source):
                client = service.client("acme")
                ids = create(client, service.insert("acme", [{"data": {"age": age}} for age in range(10, 40)]))
                before = contents(client, ids)
                assert len(before["dynamic"]) == len(before["snapshot"]) == 22
                dump(admin[name], tmp_path)
            restore(admin[target], tmp_path)
            restored = mongo_store(real_uri, target, seeded)
            assert restored.missing_indexes(("contact",)) == []
            for service in run_service("mongodb", restored):
                assert contents(service.client("acme"), ids) == before
        finally:
            admin.drop_database(target)


def test_a_person_erased_after_the_backup_is_erased_again(real_uri: str, tmp_path: Path) -> None:
    """The newest tombstones are written back to the restored database."""
    with mongo_database() as source, MongoClient[dict[str, Any]](real_uri, tz_aware=True) as admin:
        name = source.database.name
        target = f"{name}_restored"
        try:
            for service in run_service("mongodb", source):
                client = service.client("acme")
                contacts = service.insert("acme", [{"data": {"age": age}} for age in range(20, 23)])
                ids = create(client, contacts)
                dump(admin[name], tmp_path)
                client.call("EraseContact", {"contactId": contacts[0]})
                tombstones = list(admin[name]["audience_erasure"].find())
            restore(admin[target], tmp_path)
            admin[target]["audience_erasure"].insert_many(tombstones)
            settings = {"AUDIENCE_MONGODB_URI": real_uri, "AUDIENCE_DATABASE": target}
            repeated = run("erasures", "repeat", **settings)
            assert "1 tombstones again" in repeated.stdout, repeated.stderr
            rows = admin[target]["audience_member"]
            assert rows.count_documents({"pk": contacts[0]}) == 2
            for service in run_service("mongodb", mongo_store(real_uri, target, seeded)):
                found = contents(service.client("acme"), ids)
                assert found["dynamic"] == found["static"] == found["snapshot"] == sorted(contacts[1:])
                eventually(lambda: not rows.count_documents({"pk": contacts[0]}))
        finally:
            admin.drop_database(target)
