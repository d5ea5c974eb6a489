"""Indexes, scope and the connection."""

from dataclasses import replace
from datetime import datetime
from typing import Any
from unittest.mock import Mock

import pytest
from bson import Decimal128
from pymongo import ReadPreference
from pymongo.read_preferences import Secondary

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import StoreUnavailable, UnsupportedByStore
from audience_service.domain.filters import Filter, FilterCompiler
from audience_service.domain.filters.ast import And, Nor, OnList, Related
from audience_service.domain.filters.compiler import compile_node
from audience_service.domain.filters.member_list import MemberList
from audience_service.domain.filters.population import Population
from audience_service.mongo.core.client import connect
from audience_service.mongo.core.indexes import collated_collections, required_indexes
from audience_service.mongo.core.scope import TenantScope
from audience_service.mongo.embedded.store import embedded_store
from audience_service.mongo.query.joins import Joins
from audience_service.mongo.query.lookups import source
from audience_service.mongo.query.pipeline import Pipeline
from audience_service.mongo.store import Store, mongo_store
from audience_service.mongo.syncs.documents import DELETED
from tests.conftest import Service, envelope


def test_a_database_lacks_indexes_until_they_are_created(service: Service) -> None:
    assert service.store.missing_indexes(("contact",)) == []
    service.store.database["segment"].drop_index("data.unique.name_1")
    [missing] = service.store.missing_indexes(("contact",))
    assert str(missing) == "segment(data.unique.name)"
    service.store.database["segment"].create_index("data.unique.name")
    assert service.store.missing_indexes(("contact",)) == [missing], "an index that is not unique does not do"
    service.store.database["segment"].drop_index("data.unique.name_1")
    service.store.create_index(missing)
    assert service.store.missing_indexes(("contact",)) == []
    assert len({str(index) for index in required_indexes(("contact", "lead"))}) == len(
        required_indexes(("contact", "lead"))
    )


def test_related_datatypes_need_an_index_on_sk_alone(service: Service) -> None:
    there = service.store.missing_indexes(("contact",))
    missing = service.store.missing_indexes(("contact",), ("parcel", "contact", "subscriber"))
    assert [str(index) for index in missing if index not in there] == ["parcel(sk)"]


def test_an_index_without_a_ttl_does_not_satisfy_a_ttl_index(service: Service) -> None:
    rows = service.store.database["audience_member"]
    rows.drop_index("expire_at_1")
    rows.create_index("expire_at", sparse=True)
    [missing] = service.store.missing_indexes(("contact",))
    assert str(missing) == "audience_member(expire_at)"
    rows.drop_index("expire_at_1")
    service.store.create_index(missing)
    assert service.store.missing_indexes(("contact",)) == []


def test_a_collection_with_a_collation_is_reported(service: Service) -> None:
    class Collated:
        def list_collections(self, **_: Any) -> list[dict[str, Any]]:
            return [
                {"name": "lead", "options": {"collation": {"locale": "en", "strength": 2}}},
                {"name": "contact", "options": {}},
                {"name": "segment"},
            ]

    database: Any = Collated()
    assert collated_collections(database, ("contact", "lead")) == ["lead"]
    assert service.store.collated_collections(("contact", "lead")) == []


@pytest.mark.parametrize("org", ["", "a/b", "/"])
def test_an_org_name_that_could_leave_its_scope_is_rejected(org: str) -> None:
    with pytest.raises(ValueError, match="slash"):
        TenantScope().match(org)


def test_the_tenant_scope_is_next_to_the_filter() -> None:
    assert TenantScope().match("acme", {"$or": [{"sk": "x"}]}, {}) == {
        "sk": {"$gte": "acme/", "$lt": "acme0"},
        "$and": [{"$or": [{"sk": "x"}]}],
    }


def test_people_erased_in_one_store_stay_in_another_of_the_process() -> None:
    """Each store has its own scope, and so have its repositories."""
    first, second = (embedded_store([envelope("acme", {"id": "1"})], ("contact",)) for _ in range(2))
    end = first.scope.exclude(lambda org: frozenset({f"{org}/contact/1"}))
    first.scope.exclude(lambda _: frozenset())
    everyone = FilterCompiler(["contact"]).compile(Filter("contact", {}))
    assert [store.members.count("acme", everyone, Deadline.after(10)) for store in (first, second)] == [0, 1]
    end()
    assert first.members.count("acme", everyone, Deadline.after(10)) == 1


@pytest.mark.parametrize(
    ("query", "option", "value"),
    [
        ("", "server_selection_timeout", 3),
        ("?serverSelectionTimeoutMS=500", "server_selection_timeout", 0.5),
        ("?serverselectiontimeoutms=500", "server_selection_timeout", 0.5),
    ],
)
def test_uri_options_override_the_defaults(query: str, option: str, value: Any) -> None:
    database = connect(f"mongodb://127.0.0.1:1/{query}", "crm")
    assert getattr(database.client.options, option) == value
    assert database.write_concern.document == {"w": "majority"}
    database.client.close()


def test_a_password_is_not_parsed_as_an_option() -> None:
    database = connect("mongodb://user:pw=1@127.0.0.1:1/?authSource=admin", "crm")
    assert database.write_concern.document == {"w": "majority"}
    database.client.close()


def test_the_uri_may_weaken_the_write_concern() -> None:
    database = connect("mongodb://127.0.0.1:1/?w=1", "crm")
    assert database.write_concern.document == {"w": 1}
    database.client.close()


def test_what_a_stale_secondary_would_falsify_is_read_from_the_primary() -> None:
    store = mongo_store("mongodb://127.0.0.1:1/?readPreference=secondary", "crm")
    audiences = [store.segments, store.custom_audiences, store.snapshots, store.uses]
    sweepers = [store.upload_sweeper, store.snapshot_sweeper, store.custom_audience_sweeper]
    uploads = store.upload_storage
    rows = [store.lists, store.snapshot_rows, uploads.uploads, uploads.unmatched, uploads.lists, uploads.rejected]
    read = [*audiences, *sweepers, *rows, store.watches, store.event_log, store.history]
    databases = [vars(repository)["_database"] for repository in read]
    assert [database.read_preference for database in databases] == [ReadPreference.PRIMARY] * len(read)
    assert store.database.read_preference == Secondary()
    store.close()


ON_LIST = OnList(MemberList("segment-1", "contact"))
ORDERS = Related("order", "pk", "contactId", ON_LIST, 1, None)


@pytest.mark.parametrize(
    ("population", "is_primary"),
    [
        (MemberList("segment-1", "contact"), True),
        (compile_node("contact", ON_LIST), True),
        (compile_node("contact", Nor((ORDERS,))), True),
        (compile_node("contact", replace(ORDERS, query=And(()))), False),
        (compile_node("contact", And(())), False),
    ],
)
def test_rows_of_lists_are_read_from_the_primary(population: Population, *, is_primary: bool) -> None:
    """Also as a condition, and as one on related records. Other filters are evaluated where the URI says."""
    store = mongo_store("mongodb://127.0.0.1:1/?readPreference=secondary", "crm")
    joins = Joins(store.scope, "acme", getattr(population, "joins", None), {})
    pipeline = Pipeline(store.scope, "acme", population, joins)
    collection = source(store.database, pipeline.collection, reads_lists=pipeline.reads_lists)
    store.close()
    assert collection.read_preference == (ReadPreference.PRIMARY if is_primary else Secondary())


def test_the_embedded_store_lacks_no_index() -> None:
    store = embedded_store([], ("contact",), ("order", "event"))
    assert store.missing_indexes(("contact",), ("order", "event")) == []


def test_the_embedded_store_rejects_decimals() -> None:
    record = envelope("acme", {"id": "a", "data": {"prices": [{"net": Decimal128("1.5")}]}})
    with pytest.raises(UnsupportedByStore, match="contact-a"):
        embedded_store([record], ["contact"])


def test_an_org_has_records_of_its_own_only(store: Store) -> None:
    store.database["contact"].insert_one(envelope("acme2", {"data": {}}))
    assert store.has_records("acme2", "contact")
    assert not store.has_records("acme", "contact")


def test_a_sweep_needs_no_tombstones_of_the_org() -> None:
    """An org whose tombstones cannot be read must not stop the cleanup of others."""
    store = embedded_store([], ("contact",))
    store.scope.exclude(Mock(side_effect=StoreUnavailable("set the key")))
    store.database["audience_sync"].insert_one(
        {
            "_id": 1,
            "pk": "sync-1",
            "sk": "acme/audience_sync/sync-1",
            "state": DELETED,
            "modifydate": datetime(2026, 1, 1),
        }
    )
    store.sync_sweeper.sweep(datetime(2026, 6, 1))
    assert store.database["audience_sync"].count_documents({}) == 0
    store.snapshot_rows.delete("acme", "static-1", Deadline.after(10))
