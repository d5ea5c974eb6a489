"""Indexes, scope and the connection."""

from typing import Any

import pytest
from bson import Decimal128
from pymongo import ReadPreference
from pymongo.read_preferences import Secondary

from audience_service.domain.errors import UnsupportedByStore
from audience_service.mongo.collections import connect
from audience_service.mongo.indexes import collated_collections, required_indexes
from audience_service.mongo.scope import scoped
from audience_service.mongo.store import embedded_store, mongo_store
from tests.conftest import Service, envelope


def test_a_database_lacks_indexes_until_they_are_made(service: Service) -> None:
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


def test_an_index_that_deletes_nothing_does_not_do_where_rows_must_expire(service: Service) -> None:
    rows = service.store.database["audience_member"]
    rows.drop_index("expire_at_1")
    rows.create_index("expire_at", sparse=True)
    [missing] = service.store.missing_indexes(("contact",))
    assert str(missing) == "audience_member(expire_at)"
    rows.drop_index("expire_at_1")
    service.store.create_index(missing)
    assert service.store.missing_indexes(("contact",)) == []


def test_a_collection_with_a_collation_is_named(service: Service) -> None:
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
def test_no_scope_is_made_of_a_name_that_could_leave_it(org: str) -> None:
    with pytest.raises(ValueError, match="slash"):
        scoped(org)


def test_the_scope_stands_beside_the_filter_not_inside_it() -> None:
    assert scoped("acme", {"$or": [{"sk": "x"}]}, {}) == {
        "sk": {"$gte": "acme/", "$lt": "acme0"},
        "$and": [{"$or": [{"sk": "x"}]}],
    }


@pytest.mark.parametrize(
    ("query", "option", "value"),
    [
        ("", "server_selection_timeout", 3),
        ("?serverSelectionTimeoutMS=500", "server_selection_timeout", 0.5),
        ("?serverselectiontimeoutms=500", "server_selection_timeout", 0.5),
    ],
)
def test_the_uri_has_the_last_word(query: str, option: str, value: Any) -> None:
    database = connect(f"mongodb://127.0.0.1:1/{query}", "crm")
    assert getattr(database.client.options, option) == value
    assert database.write_concern.document == {"w": "majority"}
    database.client.close()


def test_a_password_is_not_taken_for_an_option() -> None:
    database = connect("mongodb://user:pw=1@127.0.0.1:1/?authSource=admin", "crm")
    assert database.write_concern.document == {"w": "majority"}
    database.client.close()


def test_a_weaker_write_concern_is_the_uris_to_ask() -> None:
    database = connect("mongodb://127.0.0.1:1/?w=1", "crm")
    assert database.write_concern.document == {"w": 1}
    database.client.close()


def test_what_audiences_are_who_uses_them_and_who_is_in_is_read_from_the_primary_whatever_the_uri_says() -> None:
    store = mongo_store("mongodb://127.0.0.1:1/?readPreference=secondary", "crm")
    audiences = [store.segments, store.customs, store.snapshots, store.uses, store.upload_sweeper]
    read = [*audiences, store.watches, store.ledger, store.starts, store.past]
    databases = [vars(repository)["_database"] for repository in read]
    assert [database.read_preference for database in databases] == [ReadPreference.PRIMARY] * len(read)
    assert store.database.read_preference == Secondary()
    store.close()


def test_the_embedded_store_lacks_no_index() -> None:
    store = embedded_store([], ("contact",), ("order", "event"))
    assert store.missing_indexes(("contact",), ("order", "event")) == []


def test_the_embedded_store_takes_in_no_decimals() -> None:
    record = envelope("acme", {"id": "a", "data": {"prices": [{"net": Decimal128("1.5")}]}})
    with pytest.raises(UnsupportedByStore, match="contact-a"):
        embedded_store([record], ["contact"])
