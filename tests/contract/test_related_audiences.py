"""Audiences inside the conditions of a relation, such as contacts of companies in an audience."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from audience_service.mongo.query import join_prefetch
from tests.conftest import Service, mongo_database, run_service
from tests.support.client import Client, Refusal

COMPANIES = {"tech": "JP", "shop": "FR", "bank": "JP"}


def related(count: Any = None, **where: Any) -> dict[str, Any]:
    relation = {"datatype": "company", "on": {"local": "companyId", "foreign": "pk"}, "where": where}
    return {"$related": relation if count is None else {**relation, "count": count}}


@pytest.fixture(scope="module")
def company_service(real_uri: str) -> Iterator[Service]:
    """A server whose audiences may be of companies."""
    assert real_uri
    with mongo_database() as store:
        yield from run_service("mongodb", store, datatypes=("contact", "lead", "customer", "company"))


@pytest.fixture(params=["looked up", "read"])
def world(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, company_service: Service
) -> tuple[Client, list[str]]:
    """A contact of each company, which is also looked up or read; another org has companies with the same ids."""
    timeout = join_prefetch.NO_TIMEOUT if request.param == "read" else 0.0
    monkeypatch.setattr(join_prefetch.JoinPrefetcher, "prefetch_timeout", lambda *_: timeout)
    org = f"companies{next(company_service.names)}"
    for name, country in ((org, None), (f"{org}2", "JP")):
        companies = [{"id": key, "data": {"country": country or own}} for key, own in COMPANIES.items()]
        company_service.insert(name, companies, "company")
    contacts = [{"id": f"{org}-{key}", "data": {"companyId": f"company-{key}"}} for key in COMPANIES]
    return company_service.client(org), company_service.insert(org, contacts)


def test_contacts_of_companies_in_an_audience_are_members(world: tuple[Client, list[str]]) -> None:
    client, ids = world
    tech, shop, bank = ids
    japan = client.create(name="Japan", filter={"datatype": "company", "where": {"country": "JP"}}).id
    static = {"filter": {"datatype": "company", "where": {"country": {"$ne": "FR"}}}}
    segment = {"name": "list", "type": "static"}
    listed = client.call("CreateSegment", {"segment": segment, "source": static}).id
    for audience_id in (japan, listed):
        inside = {"$inAudience": audience_id}
        for where, expected in (
            (related(**inside), [bank, tech]),
            (related(0, **inside), [shop]),
            ({"$nor": [related(**inside)]}, [shop]),
            (related(**{"$nor": [inside]}), [shop]),
            (related(**inside, pk="company-tech"), [tech]),
            (related(**{"$or": [inside, {"pk": "company-shop"}]}), [bank, shop, tech]),
        ):
            written = {"datatype": "contact", "where": where}
            assert client.members(filter=written) == sorted(expected), where
            assert client.count(filter=written) == len(expected)
    explained = client.call("ExplainMembership", {"contactId": tech, "filter": written})
    assert explained.member


def test_an_audience_inside_a_relation_is_refused_if_it_cannot_be_read(
    world: tuple[Client, list[str]], refused: Callable[..., Refusal]
) -> None:
    """Its records are of the related datatype, it reads no other relation, and it is no cycle of audiences."""
    client, _ = world
    contacts = client.create(name="contacts", filter={"datatype": "contact", "where": {"n": 1}}).id
    on = {"local": "pk", "foreign": "companyId"}
    nested = client.create(
        name="nested", filter={"datatype": "company", "where": {"$related": {"datatype": "order", "on": on}}}
    ).id
    for audience_id, problem in (
        (contacts, "is an audience of contact, not of company"),
        (nested, "names an audience with $related"),
        ("segment-of-nobody", "names no audience of the org"),
    ):
        written = {"datatype": "contact", "where": related(**{"$inAudience": audience_id})}
        refusal = refused(lambda written=written: client.count(filter=written))
        assert refusal.fields == ["filter.where.$related.where.$inAudience"]
        assert problem in refusal.descriptions[0]
