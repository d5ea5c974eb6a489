"""What a search finds, in which order, page by page."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audience_service.domain.core.context import Caller, Deadline, RequestContext
from audience_service.domain.core.errors import InvalidArgument, InvalidPageToken, PlatformNotImported
from audience_service.domain.core.normalisation import normalise
from audience_service.domain.core.page_tokens import TokenCodec
from audience_service.domain.core.pages import ListedPage, PageRequest
from audience_service.domain.targeting.bitmap import bitmap, members
from audience_service.domain.targeting.model import KINDS
from audience_service.domain.targeting.platform_ids import ImportedIds, PlatformIds
from audience_service.domain.targeting.service import NodeQuery, NodeWithIds, Targeting
from audience_service.domain.targeting.taxonomy import Taxonomy, packaged_taxonomies
from tests.support.memory_trees import MemoryTrees

QUERIES = json.loads((Path(__file__).parents[2] / "data/targeting_queries.json").read_text())
CTX = RequestContext(Caller("ann", "acme", frozenset()), Deadline(None))
PLACES = packaged_taxonomies()["places"]


class Repository:
    """Imports in memory, and how often one was read."""

    def __init__(self) -> None:
        self.stored: dict[str, ImportedIds] = {}
        self.loads = 0

    def versions(self, deadline: Deadline) -> dict[str, str]:
        return {platform: imported.version for platform, imported in self.stored.items()}

    def load(self, platform: str, deadline: Deadline) -> ImportedIds | None:
        self.loads += 1
        return self.stored.get(platform)

    def publish(self, imported: ImportedIds, replaced_version: str | None, deadline: Deadline) -> None:
        self.stored[imported.platform] = imported

    def remove(self, platform: str, deadline: Deadline) -> bool:
        return self.stored.pop(platform, None) is not None


def targeting(ids: PlatformIds | None = None) -> Targeting:
    """The use case over the packaged taxonomies."""
    ids = ids or PlatformIds(Repository())
    return Targeting(packaged_taxonomies(), ids, MemoryTrees(), TokenCodec(b"k" * 32))


def listed(name: str = "places", size: int = 20, token: str = "", **query: Any) -> ListedPage[NodeWithIds]:
    """A page."""
    return targeting().list(CTX, name, NodeQuery(**query), PageRequest(size, token))


def ids(page: ListedPage[NodeWithIds]) -> list[str]:
    """The ids of a page's nodes."""
    return [node.id for node, _ in page.items]


@pytest.mark.parametrize("case", QUERIES, ids=[case["query"] for case in QUERIES])
def test_the_expected_node_ranks_first(case: dict[str, Any]) -> None:
    found = ids(listed(query=case["query"]))
    assert found[: len(case["first"])] == case["first"]
    assert bool(found) == bool(case["first"])


def test_a_city_and_state_of_the_same_name_differ_by_ancestors() -> None:
    state, city = (node for node, _ in listed(query="New York", size=2).items)
    assert (state.kind, [above.name for above in state.ancestors]) == ("subdivision", ["United States"])
    assert (city.kind, [above.name for above in city.ancestors]) == ("city", ["United States", "New York"])
    assert (state.population, city.population, city.coordinates) == (None, 8804190, (40.71427, -74.00597))


@given(st.integers(0, len(PLACES) - 1), st.data())
def test_any_beginning_of_any_name_finds_its_node(number: int, data: st.DataObject) -> None:
    name = normalise(PLACES.name(number))
    begun = name[: data.draw(st.integers(2, max(2, len(name))))]
    found = PLACES.names.find(normalise(begun))
    assert (found.exact | found.prefix | found.word_prefix) >> number & 1


def test_matches_rank_by_exactness_then_population() -> None:
    found = PLACES.names.find("york")
    own = bitmap(number for number in members(found.exact) if "York" in PLACES.name(number).split())
    classes = (own, found.exact & ~own, found.prefix, found.word_prefix)
    expected = [PLACES.ids[number] for numbers in classes for number in members(numbers)]
    expected = [node_id for node_id in expected if not node_id.startswith("language-")]
    assert ids(listed(query="york", size=200)) == expected
    cities = [node.population for node, _ in listed(kind="city", size=200).items]
    assert cities == sorted(cities, key=lambda count: -(count or 0))


def test_pages_contain_each_node_once() -> None:
    one_page = ids(listed(query="san", size=2_000))
    assert len(one_page) > 300
    pages, token = [], ""
    while True:
        page = listed(query="san", size=97, token=token)
        assert page.total == len(one_page)
        pages += ids(page)
        if not (token := page.next_page_token):
            break
    assert pages == one_page


def test_a_page_that_is_just_full_has_no_next_one() -> None:
    total = listed(query="paris").total
    assert listed(query="paris", size=total).next_page_token == ""
    assert listed(query="paris", size=total - 1).next_page_token


@pytest.mark.parametrize("change", [{"query": "los"}, {"kind": "city"}, {"country": "US"}])
def test_a_page_token_serves_its_own_request_alone(change: dict[str, Any]) -> None:
    token = listed(query="san").next_page_token
    with pytest.raises(InvalidPageToken):
        listed(token=token, **{"query": "san", **change})
    with pytest.raises(InvalidPageToken):
        listed("interests", query="san", token=token)


def test_without_a_query_a_parent_has_its_children_and_with_one_all_below_it() -> None:
    germany: dict[str, Any] = {"parent_id": "country-DE"}
    assert {node.kind for node, _ in listed(**germany, size=200, kind="subdivision").items} == {"subdivision"}
    assert len(ids(listed(**germany, kind="subdivision", size=200))) == 16
    assert "city-2867714" not in ids(listed(**germany, size=200))
    assert ids(listed(**germany, query="munich"))[0] == "city-2867714"
    assert listed(parent_id="country-FR", query="munich").total == 0
    sports = listed("interests", parent_id="interest-607", query="rugby")
    assert ids(sports) == ["interest-657", "interest-658", "interest-659"]


def test_kinds_and_countries_keep_their_own() -> None:
    assert {node.country for node, _ in listed(query="paris", country="us").items} == {"US"}
    assert {node.kind for node, _ in listed(query="new york", kind="city").items} == {"city"}
    assert [node.name for node, _ in listed("interests", kind="interest", query="sports", size=1).items] == ["Sports"]


def test_top_level_lists_the_root_nodes() -> None:
    tops = [node.name for node, _ in listed("interests", top_level=True).items]
    assert tops == ["Demographic", "Interest", "Purchase Intent"]
    assert listed(top_level=True, kind="country").total == 249


def test_languages_are_listed_only_on_request() -> None:
    assert ids(listed(query="german", kind="language"))[0] == "language-de"
    assert ids(listed(query="deutsch", kind="language"))[0] == "language-de"
    assert not any(node_id.startswith("language-") for node_id in ids(listed(query="german", size=200)))


def test_a_platform_keeps_its_own_options() -> None:
    assert {node.platform for node, _ in listed("options", platform="google", size=200).items} == {"google"}
    assert {node.platform for node, _ in listed("options", platform="facebook", size=200).items} == {"meta"}
    assert ids(listed("options", query="18", platform="google")) == ["option-google-age_range_type-AGE_RANGE_18_24"]


@pytest.mark.parametrize(
    ("name", "query", "field_path", "what"),
    [
        ("places", {"platform": "myspace"}, "platform", "give one of meta, google"),
        ("places", {"parent_id": "country-XX"}, "parent_id", "no node"),
        ("interests", {"parent_id": "country-DE"}, "parent_id", "no node of this taxonomy"),
        ("places", {"kind": "planet"}, "kind", "give one of country, subdivision, city, language"),
        ("places", {"country": "XX"}, "country", "ISO 3166-1"),
        ("places", {"query": "x" * 201}, "query", "longer than 200"),
        ("places", {"parent_id": "country-DE", "top_level": True}, "top_level", "cannot be combined with parent_id"),
    ],
)
def test_a_condition_that_cannot_be_met_is_refused(
    name: str, query: dict[str, Any], field_path: str, what: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        listed(name, **query)
    [violation] = caught.value.violations
    assert (violation.field, what in violation.description) == (field_path, True)


def test_a_query_of_200_characters_is_searched() -> None:
    assert listed(query=" münchen" * 2 + " " * 184).total == listed(query="münchen münchen").total
    assert listed(query="x" * 200).total == 0


def test_data_that_differs_in_a_name_or_in_a_row_alone_is_another_version() -> None:
    row = "\t".join(("interest-1", "", "interest", "", "A", "IAB", "", "", "", "", ""))
    data = [
        (row.encode(), b"a\t0"),
        (row.replace("IAB", "IAC").encode(), b"a\t0"),
        (row.encode(), b"b\t0"),
    ]
    versions = {Taxonomy(KINDS["interests"], rows, names, b"").version for rows, names in data}
    assert len(versions) == len(data)


def imported(platform: str, version: str, known: dict[str, str]) -> ImportedIds:
    """An import."""
    return ImportedIds(platform, version, datetime(2026, 11, 25, tzinfo=UTC), ("f",), known, 0)


def test_no_node_has_an_id_of_a_platform_before_an_import() -> None:
    assert all(known == {} for _, known in listed(query="munich").items)


def test_imported_ids_are_shown() -> None:
    repository = Repository()
    platform_ids = PlatformIds(repository)
    service = targeting(platform_ids)
    repository.stored = {
        "google": imported("google", "1", {"city-2867714": "1004234", "country-DE": "2276"}),
        "tiktok": imported("tiktok", "1", {"city-2867714": "2867714"}),
    }
    platform_ids.refresh(Deadline(None))
    first = PageRequest(20)
    page = service.list(CTX, "places", NodeQuery(query="munch"), first)
    assert page.items[0][1] == {"google": "1004234", "tiktok": "2867714"}
    assert page.items[1][1] == {}


@pytest.mark.parametrize(
    ("name", "platform"), [("places", "google"), ("interests", "facebook"), ("options", "linkedin")]
)
def test_a_platform_without_an_import_is_refused_with_the_command(name: str, platform: str) -> None:
    """An empty list would look like an answer."""
    with pytest.raises(PlatformNotImported, match="taxonomy import --platform"):
        listed(name, platform=platform)


def test_an_import_is_reloaded_on_version_change_and_dropped_on_removal() -> None:
    repository = Repository()
    platform_ids = PlatformIds(repository)
    repository.stored["google"] = imported("google", "1", {"country-DE": "1"})
    for _ in range(3):
        platform_ids.refresh(Deadline(None))
    assert repository.loads == 1
    repository.stored["google"] = imported("google", "2", {"country-DE": "2"})
    before = platform_ids.current()
    platform_ids.refresh(Deadline(None))
    assert (before["google"]["country-DE"], platform_ids.current()["google"]["country-DE"]) == ("1", "2")
    repository.remove("google", Deadline(None))
    platform_ids.refresh(Deadline(None))
    assert platform_ids.current() == {}
