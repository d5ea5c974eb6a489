"""TargetingService on the wire, and the imports of ad platforms' ids, on every store."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import grpc
import pytest

from audience_service import background
from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.targeting.platform_ids import ImportedIds
from audience_service.wiring.targeting import taxonomy_importer
from tests.conftest import Service
from tests.support.client import Client, Refusal
from tests.support.waiting import eventually

NO_DEADLINE = Deadline(None)
GOOGLE = """Criteria ID,Name,Canonical Name,Parent ID,Country Code,Target Type,Status
2276,"Germany","Germany","",DE,Country,Active
1004234,"Munich","Munich,Bavaria,Germany",20228,DE,City,Active
9004054,"80331","80331,Bavaria,Germany",20228,DE,Postal Code,Active
"""


@pytest.fixture
def nothing_imported(service: Service) -> Iterator[None]:
    """Remove what the test has imported."""
    yield
    for platform in service.store.platform_ids.versions(NO_DEADLINE):
        service.store.platform_ids.remove(platform, NO_DEADLINE)


def munich_ids(client: Client) -> dict[str, str]:
    """The ids that Munich has."""
    return dict(client.call("ListLocations", {"query": "munich", "pageSize": 1}).nodes[0].platform_ids)


def test_a_place_has_all_its_attributes(client: Client) -> None:
    [munich] = client.call("ListLocations", {"query": "münchen", "pageSize": 1, "kind": "city"}).nodes
    assert (munich.id, munich.name, munich.kind, munich.country) == ("city-2867714", "Munich", "city", "DE")
    assert (munich.parent_id, munich.source) == ("subdivision-DE-BY", "GeoNames")
    assert [(above.id, above.name) for above in munich.ancestors] == [
        ("country-DE", "Germany"),
        ("subdivision-DE-BY", "Bayern"),
    ]
    assert munich.population == 1505005
    assert (munich.coordinates.latitude, munich.coordinates.longitude) == (48.13743, 11.57549)
    assert not munich.localized_names


def test_names_come_in_the_languages_that_are_asked_for(client: Client) -> None:
    request = {"query": "bavaria", "languages": ["de", "en", "fr"], "pageSize": 1}
    [bavaria] = client.call("ListLocations", request).nodes
    assert dict(bavaria.localized_names) == {"de": "Bayern", "en": "Bavaria", "fr": "Bavière"}
    assert not bavaria.HasField("population")
    assert not bavaria.HasField("coordinates")


def test_interests_and_options_page_as_locations_do(client: Client) -> None:
    for rpc, total in (("ListInterests", 1558), ("ListTargetingOptions", 0)):
        seen, token = [], ""
        while True:
            page = client.call(rpc, {"pageSize": 150, "pageToken": token})
            seen += [node.id for node in page.nodes]
            if not (token := page.next_page_token):
                break
        assert len(seen) == len(set(seen)) == page.total_size
        assert page.total_size >= total
    assert len(client.call("ListLocations").nodes) == 20
    assert len(client.call("ListLocations", {"pageSize": 10_000}).nodes) == 200


def test_an_option_says_whose_it_is_and_how_the_sdk_spells_it(client: Client) -> None:
    [option] = client.call("ListTargetingOptions", {"query": "female", "platform": "google"}).nodes
    assert (option.kind, option.platform, option.value) == ("option", "google", "FEMALE")
    assert (option.parent_id, option.ancestors[0].name) == ("option-google-gender_type", "Gender type")
    assert option.source.startswith("google-ads ")


def test_top_level_and_child_nodes_are_listed_separately(client: Client) -> None:
    tops = client.call("ListLocations", {"topLevel": True, "pageSize": 200})
    assert {node.parent_id for node in tops.nodes} == {""}
    assert {node.name for node in client.call("ListInterests", {"topLevel": True}).nodes} == {
        "Demographic", "Interest", "Purchase Intent",
    }  # fmt: skip
    below = client.call("ListLocations", {"parentId": "subdivision-DE-BY"})
    assert {node.parent_id for node in below.nodes} == {"subdivision-DE-BY"}


def test_every_org_sees_the_same_and_a_page_token_is_one_org_s(
    client: Client, service: Service, org: str, refused: Callable[..., Refusal]
) -> None:
    other = service.client(f"{org}b")
    mine, theirs = (each.call("ListLocations", {"query": "san"}) for each in (client, other))
    assert list(mine.nodes) == list(theirs.nodes)
    request = {"query": "san", "pageToken": mine.next_page_token}
    assert refused(lambda: other.call("ListLocations", request)).info.reason == "INVALID_PAGE_TOKEN"


@pytest.mark.parametrize(
    "country", ["GB", "uk", "U.K.", "gbr", "Great Britain", "Vereinigtes Königreich", "the United Kingdom"]
)
def test_a_country_is_named_as_people_write_it(client: Client, country: str) -> None:
    """Targeting reads the table of countries that identifiers read."""
    listed = client.call("ListLocations", {"query": "London", "country": country, "kind": "city"})
    assert (listed.nodes[0].name, {node.country for node in listed.nodes}) == ("London", {"GB"})


@pytest.mark.parametrize(
    ("request_", "field_path"),
    [
        ({"kind": "planet"}, "kind"),
        ({"country": "Nowhere"}, "country"),
        ({"platform": "myspace"}, "platform"),
        ({"parentId": "city-0"}, "parent_id"),
        ({"query": "x" * 201}, "query"),
        ({"languages": ["de", "tlh"]}, "languages[1]"),
        ({"languages": ["de"] * 21}, "languages"),
        ({"pageSize": -1}, "page_size"),
    ],
)
def test_a_bad_field_is_named(
    client: Client, refused: Callable[..., Refusal], request_: dict[str, object], field_path: str
) -> None:
    refusal = refused(lambda: client.call("ListLocations", request_))
    assert (refusal.code, refusal.info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert [violation.field for violation in refusal.details[1].field_violations] == [field_path]


def test_listing_nodes_requires_the_read_scope(service: Service, org: str, refused: Callable[..., Refusal]) -> None:
    guest = service.client(org, scopes=("audiences.write",))
    for rpc in ("ListInterests", "ListLocations", "ListTargetingOptions"):
        assert refused(lambda rpc=rpc: guest.call(rpc)).info.reason == "MISSING_SCOPE"


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_imported")
def test_a_running_server_sees_an_import_replaced_and_removed(
    client: Client, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "_HEALTH_INTERVAL_SECONDS", 0.5)  # of the checks after the next
    imports = taxonomy_importer(service.store)
    files = {"geotargets.csv": GOOGLE}
    links = imports.match("google", files)
    assert munich_ids(client) == {}
    imports.publish("google", files, links, NO_DEADLINE)
    eventually(lambda: munich_ids(client) == {"google": "1004234"})
    listed = client.call("ListLocations", {"platform": "google"})
    assert [node.id for node in listed.nodes] == ["country-DE", "city-2867714"]
    imported_ids = service.store.platform_ids.load("google", NO_DEADLINE)
    assert imported_ids
    assert (imported_ids.files, imported_ids.unmatched_count, dict(imported_ids.ids)) == (
        ("geotargets.csv",),
        1,
        dict(links.ids),
    )

    fewer = {
        "geotargets.csv": GOOGLE.replace("1004234", "7").replace("2276", "9").replace("Country,Active", "Country,Gone")
    }
    imports.publish("google", fewer, imports.match("google", fewer), NO_DEADLINE)
    eventually(lambda: munich_ids(client) == {"google": "7"})
    assert client.call("ListLocations", {"platform": "google"}).total_size == 1

    languages = {"languages.json": '{"data": [{"key": 5, "name": "German"}]}'}
    imports.publish("meta", languages, imports.match("meta", languages), NO_DEADLINE)
    assert service.store.platform_ids.remove("google", NO_DEADLINE)
    assert list(service.store.platform_ids.versions(NO_DEADLINE)) == ["meta"]
    assert not service.store.platform_ids.remove("google", NO_DEADLINE)
    eventually(lambda: munich_ids(client) == {})
    assert service.store.platform_ids.load("google", NO_DEADLINE) is None


def test_an_import_too_large_for_a_document_is_refused_before_writing(service: Service) -> None:
    ids = {f"city-{number}": "x" * 40_000 for number in range(400)}
    with pytest.raises(InvalidArgument):
        service.store.platform_ids.publish(ImportedIds("meta", "1", datetime.now(UTC), ("f",), ids, 0), NO_DEADLINE)
    assert "meta" not in service.store.platform_ids.versions(NO_DEADLINE)
