"""TargetingService on the wire, and the imports of ad platforms' ids, on every store."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import bson
import grpc
import pytest

from audience_service import background
from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.targeting.importer import TaxonomyImporter
from audience_service.domain.targeting.name_index import Matches
from audience_service.domain.targeting.platform_ids import ImportedIds
from audience_service.domain.targeting.platform_tree import PlatformTree
from audience_service.domain.targeting.taxonomy_matcher import MatchResult
from audience_service.wiring.targeting import taxonomy_importer
from tests.conftest import Service
from tests.support.client import Client, Refusal
from tests.support.waiting import eventually

NO_DEADLINE = Deadline(None)
GOOGLE = """Criteria ID,Name,Canonical Name,Parent ID,Country Code,Target Type,Status
2276,"Germany","Germany","",DE,Country,Active
1004234,"Munich","Munich,Bavaria,Germany",20228,DE,City,Active
20228,"Bavaria","Bavaria,Germany",2276,DE,State,Active
9004054,"80331","80331,Bavaria,Germany",20228,DE,Postal Code,Active
9041234,"Schwabing","Schwabing,Bavaria,Germany",20228,DE,Neighborhood,Active
"""
_NAMES = (
    "Sailing", "Unboxing", "K-pop", "Marvel Cinematic Universe", "Cold brew coffee", "Tiny houses", "Van life",
    "Sneaker collecting", "Bullet journal", "Sports and outdoors",
)  # fmt: skip
INTERESTS: list[dict[str, Any]] = [
    {
        "id": str(number),
        "name": name,
        "path": ["Interests", name] if number else ["Interests", "Sports and outdoors", name],
        "audience_size_lower_bound": number,
        "audience_size_upper_bound": 10 * number + 10,
    }
    for number, name in enumerate(_NAMES)
]
"""Interests of ten topics, the smallest audience first."""


@pytest.fixture
def nothing_imported(service: Service) -> Iterator[None]:
    """Remove what the test has imported."""
    yield
    for platform in service.store.platform_ids.versions(NO_DEADLINE):
        taxonomy_importer(service.store).remove(platform, NO_DEADLINE)


def import_files(service: Service, platform: str, files: dict[str, str]) -> MatchResult:
    """Import files as an operator does."""
    importer = taxonomy_importer(service.store)
    matches = importer.match(platform, files)
    importer.publish(platform, files, matches, NO_DEADLINE)
    return matches


def own_ids(client: Client, rpc: str, **request: object) -> list[str]:
    """The ids of the listed nodes."""
    return [node.id for node in client.call(rpc, request).nodes]


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
    client: Client, service: Service, refused: Callable[..., Refusal], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "_HEALTH_INTERVAL_SECONDS", 0.5)  # of the checks after the next
    assert munich_ids(client) == {}
    links = import_files(service, "google", {"geotargets.csv": GOOGLE})
    eventually(lambda: munich_ids(client) == {"google": "1004234"})
    imported_ids = service.store.platform_ids.load("google", NO_DEADLINE)
    assert imported_ids
    assert (imported_ids.files, imported_ids.unmatched_count, dict(imported_ids.ids)) == (
        ("geotargets.csv",),
        2,
        dict(links.ids),
    )
    first = client.call("ListLocations", {"platform": "google", "pageSize": 1})
    import_files(service, "google", {"geotargets.csv": GOOGLE.replace("1004234", "7")})
    assert own_ids(client, "ListLocations", platform="google", query="munich") == ["location-google-7"]
    old_page = {"platform": "google", "pageSize": 1, "pageToken": first.next_page_token}
    assert refused(lambda: client.call("ListLocations", old_page)).info.reason == "INVALID_PAGE_TOKEN"
    eventually(lambda: munich_ids(client) == {"google": "7"})
    assert len(service.store.platform_trees.versions("google", NO_DEADLINE)) == 1

    import_files(service, "meta", {"languages.json": '{"data": [{"key": 5, "name": "German"}]}'})
    importer = taxonomy_importer(service.store)
    assert importer.remove("google", NO_DEADLINE)
    assert list(service.store.platform_ids.versions(NO_DEADLINE)) == ["meta"]
    assert not importer.remove("google", NO_DEADLINE)
    assert list(service.store.platform_trees.versions("google", NO_DEADLINE)) == []
    eventually(lambda: munich_ids(client) == {})
    assert service.store.platform_ids.load("google", NO_DEADLINE) is None


@pytest.mark.usefixtures("nothing_imported")
@pytest.mark.slow
def test_each_of_meta_s_interests_can_be_picked(client: Client, service: Service) -> None:
    """Also those that the IAB does not have, with parent, path, size and link."""
    import_files(service, "meta", {"interests.json": json.dumps({"data": INTERESTS})})
    for row in INTERESTS:
        [node, *_] = client.call("ListInterests", {"platform": "facebook", "query": row["name"][:4]}).nodes
        assert (node.id, dict(node.platform_ids)) == (f"interest-meta-{row['id']}", {"meta": row["id"]})
        assert list(node.path) == row["path"][:-1]
        assert node.audience_size.upper_bound == row["audience_size_upper_bound"]
    [sailing] = client.call("ListInterests", {"platform": "meta", "query": "sailing"}).nodes
    assert (sailing.same_as, sailing.parent_id) == ("interest-660", "interest-meta-9")
    assert (sailing.kind, sailing.platform, sailing.source) == (
        "interest",
        "meta",
        "meta, imported from interests.json",
    )
    by_size = own_ids(client, "ListInterests", platform="meta")
    assert by_size == [f"interest-meta-{row['id']}" for row in reversed(INTERESTS)]
    assert own_ids(client, "ListInterests", platform="meta", parentId="interest-meta-9") == ["interest-meta-0"]


@pytest.mark.usefixtures("nothing_imported")
@pytest.mark.slow
def test_postal_codes_and_neighbourhoods_of_google_can_be_picked(client: Client, service: Service) -> None:
    """They have no packaged node. Linked places come first, and are found by all their names."""
    import_files(service, "google", {"geotargets.csv": GOOGLE})
    [code] = client.call("ListLocations", {"platform": "google", "query": "803"}).nodes
    assert (code.id, code.kind, code.country) == ("location-google-9004054", "postal_code", "DE")
    assert ([above.name for above in code.ancestors], list(code.path)) == (
        ["Germany", "Bavaria"],
        ["Germany", "Bavaria"],
    )
    assert own_ids(client, "ListLocations", platform="google", query="schwab, bavaria") == ["location-google-9041234"]
    assert own_ids(client, "ListLocations", platform="google", kind="neighborhood") == ["location-google-9041234"]
    [munich] = client.call("ListLocations", {"platform": "google", "query": "münchen", "languages": ["de"]}).nodes
    assert (munich.id, munich.same_as, munich.population) == ("location-google-1004234", "city-2867714", 1505005)
    country: dict[str, object] = {"platform": "google", "parentId": "location-google-2276"}
    assert own_ids(client, "ListLocations", **country) == ["location-google-20228"]
    assert own_ids(client, "ListLocations", **country, query="8") == ["location-google-9004054"]
    assert client.call("ListLocations", {"platform": "google"}).total_size == 5


@pytest.mark.usefixtures("nothing_imported")
@pytest.mark.slow
def test_options_of_an_import_join_those_of_the_sdk(client: Client, service: Service) -> None:
    """An operator's file of ages, and LinkedIn's facets, of which no SDK has any."""
    ages = "facet,value,name\nage_groups,AGE_18_24,18 to 24\n"
    languages = '{"code": 0, "data": {"languages": [{"code": "de", "name": "German"}]}}'
    import_files(service, "tiktok", {"ages.csv": ages, "languages.json": languages})
    listed = own_ids(client, "ListTargetingOptions", platform="tiktok", pageSize=200)
    assert {"option-tiktok-age_groups-AGE_18_24", "option-tiktok-age_groups", "option-tiktok-gender"} <= set(listed)
    [age] = client.call("ListTargetingOptions", {"platform": "tiktok", "query": "age 18"}).nodes
    assert (age.value, age.kind, age.parent_id) == ("AGE_18_24", "option", "option-tiktok-age_groups")
    assert own_ids(client, "ListLocations", platform="tiktok", kind="language") == ["language-tiktok-de"]
    seniority = {"urn": "urn:li:seniority:8", "facetUrn": "urn:li:adTargetingFacet:seniorities", "name": "CXO"}
    import_files(service, "linkedin", {"entities.json": json.dumps({"elements": [seniority]})})
    [cxo] = client.call("ListTargetingOptions", {"platform": "linkedin", "query": "cxo"}).nodes
    assert (dict(cxo.platform_ids), cxo.ancestors[0].name) == ({"linkedin": "urn:li:seniority:8"}, "seniorities")


@pytest.mark.usefixtures("nothing_imported")
@pytest.mark.slow
def test_a_platform_without_such_an_import_is_an_error_with_the_command(
    client: Client, service: Service, refused: Callable[..., Refusal]
) -> None:
    """An empty list would look like an answer."""
    import_files(service, "google", {"geotargets.csv": GOOGLE})
    for rpc, platform in (("ListInterests", "google"), ("ListLocations", "meta"), ("ListTargetingOptions", "linkedin")):
        refusal = refused(lambda rpc=rpc, platform=platform: client.call(rpc, {"platform": platform}))
        assert (refusal.code, refusal.info.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PLATFORM_NOT_IMPORTED")
        assert dict(refusal.info.metadata) == {"platform": platform}


@pytest.mark.usefixtures("nothing_imported")
@pytest.mark.slow
def test_a_failed_import_leaves_the_old_one_and_the_next_removes_its_rest(
    client: Client, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash in the middle of writing, and an import that another one overtakes."""
    import_files(service, "google", {"geotargets.csv": GOOGLE})
    before = own_ids(client, "ListLocations", platform="google")
    trees, importer = service.store.platform_trees, taxonomy_importer(service.store)
    files = {"geotargets.csv": GOOGLE.replace("1004234", "7")}
    with monkeypatch.context() as patched:
        patched.setattr(TaxonomyImporter, "_discard", lambda *_: None)  # a killed process discards nothing
        with pytest.raises(KeyboardInterrupt):
            importer.publish("google", files, importer.match("google", files), NO_DEADLINE, interrupt)
    assert own_ids(client, "ListLocations", platform="google") == before
    assert len(trees.versions("google", NO_DEADLINE)) == 2

    def overtake(_: int) -> None:
        if len(trees.versions("google", NO_DEADLINE)) == 3:
            import_files(service, "google", {"geotargets.csv": GOOGLE.replace("1004234", "8")})

    with pytest.raises(InvalidArgument, match="overtaken by another import"):
        importer.publish("google", files, importer.match("google", files), NO_DEADLINE, overtake)
    assert own_ids(client, "ListLocations", platform="google", query="munich") == ["location-google-8"]
    assert len(trees.versions("google", NO_DEADLINE)) == 1


@pytest.mark.usefixtures("nothing_imported")
@pytest.mark.slow
def test_a_search_during_an_import_reads_one_version(
    client: Client, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search whose version is deleted under it starts again with the new one."""
    import_files(service, "google", {"geotargets.csv": GOOGLE})
    replace = [lambda: import_files(service, "google", {"geotargets.csv": GOOGLE.replace("1004234", "7")})]
    find = PlatformTree.find

    def replace_and_find(tree: PlatformTree, normalised: str) -> Matches:
        if replace:
            replace.pop()()
        return find(tree, normalised)

    monkeypatch.setattr(PlatformTree, "find", replace_and_find)
    assert own_ids(client, "ListLocations", platform="google", query="munich") == ["location-google-7"]


def test_the_document_that_every_search_reads_is_small(service: Service) -> None:
    """The linked ids are read once for each version."""
    import_files(service, "google", {"geotargets.csv": GOOGLE})
    ids = service.store.platform_ids
    found = ids.load("google", NO_DEADLINE)
    assert found
    many = replace(found, version="2", ids={f"city-{number}": str(number) for number in range(10_000)})
    ids.publish(many, found.version, NO_DEADLINE)
    assert ids.load("google", NO_DEADLINE) == many
    [document] = service.store.database["audience_platform_ids"].find()
    assert len(bson.encode(document)) < 1_000
    assert taxonomy_importer(service.store).remove("google", NO_DEADLINE)
    assert not list(service.store.database["audience_platform_tree"].find())


def interrupt(_: int) -> None:
    """Interrupt an import after its first batch."""
    raise KeyboardInterrupt


def test_an_import_too_large_for_a_document_is_refused_before_writing(service: Service) -> None:
    ids = {f"city-{number}": "x" * 40_000 for number in range(400)}
    imported = ImportedIds("meta", "1", datetime.now(UTC), ("f",), ids, 0)
    with pytest.raises(InvalidArgument):
        service.store.platform_ids.publish(imported, None, NO_DEADLINE)
    assert "meta" not in service.store.platform_ids.versions(NO_DEADLINE)
