"""Exports of the ad platforms, in their true shape: what they link to, and why the rest does not."""

import csv
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.targeting.model import KINDS
from audience_service.domain.targeting.platform_exports import PlatformEntry, read_export
from audience_service.domain.targeting.taxonomy import Taxonomy, packaged_taxonomies
from audience_service.domain.targeting.taxonomy_matcher import MatchResult, TaxonomyMatcher

DATA = Path(__file__).parents[2] / "data"
CASES = json.loads((DATA / "exports.json").read_text())


@functools.cache  # not a constant, which each process of a test run would build
def matcher() -> TaxonomyMatcher:
    """The matcher of the packaged taxonomies."""
    return TaxonomyMatcher(packaged_taxonomies())


@pytest.mark.parametrize("case", CASES, ids=[case["file"] for case in CASES])
@pytest.mark.slow
def test_an_export_matches_equal_entries_and_reports_the_rest(case: dict[str, Any]) -> None:
    text = (DATA / "exports" / case["file"]).read_text()
    links = matcher().match(read_export(case["platform"], text, case["file"]))
    assert links.ids == case["ids"]
    assert {each.entry.name: [each.reason, each.detail] for each in links.unmatched} == case["unlinked"]


MUNICH, SPRINGFIELD_OHIO, HONG_KONG, RICHMOND = "city-2867714", "city-4525353", "city-1819729", "city-2639389"
ELSEWHERE = "no node of its name is known to be inside its ancestors"


def city(name: str, country: str = "", *above: str, key: str = "1", **more: Any) -> PlatformEntry:
    """A platform's entry for a city."""
    return PlatformEntry(key, name, ("city",), country, ancestors=above, **more)


def region(name: str, country: str, *above: str) -> PlatformEntry:
    """A platform's entry for a subdivision."""
    return PlatformEntry("1", name, ("subdivision",), country, ancestors=above)


@pytest.mark.parametrize(
    ("entry", "node"),
    [
        (city("Munich", country_name="Allemagne"), MUNICH),
        (city("Munich", "DE", "Deutschland"), MUNICH),
        (city("Springfield", "US", "Ohio", "Clark County"), SPRINGFIELD_OHIO),
        (city("Hong Kong", "HK", "Hong Kong"), HONG_KONG),
        (city("Hong Kong", "HK", "Central and Western District"), HONG_KONG),
        (city("Hong Kong", "HK", "Victoria"), HONG_KONG),
        (city("Toluca", "MX", "México"), "city-3515302"),
        (city("Richmond", "GB", "England"), RICHMOND),
        (PlatformEntry("1", "Germany", ("country",), "DE", code="de"), "country-DE"),
        (PlatformEntry("1", "Bundesrepublik", ("country",), "DE", code="DE"), "country-DE"),
        (PlatformEntry("1", "Hebrew", ("language",), code="iw"), "language-he"),
        (PlatformEntry("1", "Ljubljana", ("subdivision", "city"), "SI"), "subdivision-SI-061"),
        (region("State of Sao Paulo", "BR"), "subdivision-BR-SP"),
        (region("Cordoba Province", "AR"), "subdivision-AR-X"),
        (region("Moscow Oblast", "RU"), "subdivision-RU-MOS"),
        (region("Moscow", "RU"), "subdivision-RU-MOW"),
        (city("Rosario", "AR", "Santa Fe Province"), "city-3838583"),
        (PlatformEntry("1", "Munich", ("subdivision", "city"), "DE"), MUNICH),
        (PlatformEntry("1", "Nutrition", ("interest",), ancestors=("Academic Interests",)), "interest-220"),
    ],
)
def test_an_entry_is_linked_to_the_one_node_that_it_can_be(entry: PlatformEntry, node: str) -> None:
    assert matcher().match([entry]).ids == {node: "1"}


@pytest.mark.parametrize(
    ("entry", "reason", "detail"),
    [
        (city("Springfield", "US"), "more than one node has its name", "city-4409896, city-4951788"),
        (city("Springfield", "US", "Bavaria"), ELSEWHERE, "Bavaria"),
        (city("Richmond", "GB", "North Yorkshire"), ELSEWHERE, "North Yorkshire"),
        (city("Richmond", "GB", "Nowhere Shire"), ELSEWHERE, "Nowhere Shire"),
        (city("Munich", "FR"), "no node of its type and country has its name", ""),
        (city("Munich", country_name="Atlantis"), "no country has its country name", "Atlantis"),
        (
            PlatformEntry("1", "Atlantis", ("country",), "XX", code="XX"),
            "no node of its type and country has its name",
            "",
        ),
        (region("Madrid", "ES"), "more than one node has its name", "subdivision-ES-M"),
        (region("Lviv Oblast", "UA"), "no node of its type and country has its name", ""),
        (region("Krasnodar", "RU"), "no node of its type and country has its name", ""),
        (region("Altai Republic", "RU"), "no node of its type and country has its name", ""),
        (region("Washington County", "US", "Oregon"), ELSEWHERE, "Oregon"),
        (region("State of Sao Paulo", "AR"), "no node of its type and country has its name", ""),
        (city("Buenos Aires", "AR", "Buenos Aires"), ELSEWHERE, "Buenos Aires"),
        (PlatformEntry("1", "Nutrition", ("interest",)), "more than one node has its name", "interest-"),
        (PlatformEntry("1", "Female", ("interest",)), "no node of its type and country has its name", ""),
        (PlatformEntry("1", "Munich", type="TV Region"), "no kind of node has its type", "TV Region"),
    ],
)
def test_an_ambiguous_entry_is_unmatched(entry: PlatformEntry, reason: str, detail: str) -> None:
    links = matcher().match([entry])
    [unlinked] = links.unmatched
    assert (links.ids, unlinked.entry, unlinked.reason) == ({}, entry, reason)
    assert unlinked.detail == detail if detail == "" else detail in unlinked.detail


@pytest.mark.slow
def test_an_export_of_the_taxonomy_matches_each_place_to_itself_or_none() -> None:
    places = packaged_taxonomies()["places"]
    entries = []
    for number, node in ((number, places.node(number)) for number in range(len(places))):
        if node.kind in ("subdivision", "city"):
            above = tuple(up.name for up in node.ancestors[1:])
            name = node.localized.get("en", node.name)
            entries.append(PlatformEntry(str(number), name, (node.kind,), node.country, ancestors=above))
    linked = matcher().match(entries).ids
    assert {node_id for node_id, key in linked.items() if places.ids[int(key)] != node_id} == set()
    assert len(linked) > 0.98 * len(entries)


def test_of_two_entries_for_a_city_the_one_with_its_very_name_is_linked() -> None:
    munich, other = city("Munich", "DE"), city("München", "DE", key="2")
    links = matcher().match([other, munich])
    assert (links.ids, [each.entry for each in links.unmatched]) == ({MUNICH: "1"}, [other])
    twice = matcher().match([munich, city("Munich", "DE", key="3")])
    assert (twice.ids, len(twice.unmatched)) == ({}, 2)


def test_a_city_is_the_city_s_before_it_is_the_municipality_s_of_its_name() -> None:
    municipality = PlatformEntry("2", "Munich", ("subdivision", "city"), "DE")
    links = matcher().match([municipality, city("München", "DE")])
    assert (links.ids, [each.entry for each in links.unmatched]) == ({MUNICH: "1"}, [municipality])


def test_entries_of_one_id_are_one_entry() -> None:
    munich = city("Munich", "DE")
    assert matcher().match([munich, munich, city("Munich", "DE", "Bavaria")]) == MatchResult({MUNICH: "1"}, ())


def test_a_geonames_id_disambiguates_cities() -> None:
    springfield = city("Springfield", "US", key="4525353", geoname_id="4525353")
    assert matcher().match([springfield]).ids == {SPRINGFIELD_OHIO: "4525353"}
    assert matcher().match([city("Munich", "DE", key="4525353", geoname_id="4525353")]).ids == {MUNICH: "4525353"}


def test_the_largest_city_is_matched_if_only_its_main_name_matches() -> None:
    names = b"".join(sorted(b"%s\t%s\n" % line for line in [(b"halle", b"1 2 3"), (b"saale", b"2"), (b"x", b"3")]))
    rows = "country-DE\t\tcountry\tDE\tGermany" + "\t" * 6
    for key, name in enumerate(("Halle", "Halle", "X")):
        rows += f"\ncity-{key}\t0\tcity\tDE\t{name}" + "\t" * 6
    assert _linked(rows, names) == {}
    assert _linked(rows.replace("Halle", "Saale", 1), names) == {}
    assert _linked(rows.replace("city-1\t0\tcity\tDE\tHalle", "city-1\t0\tcity\tDE\tSaale"), names) == {"city-0": "1"}


def _linked(rows: str, names: bytes) -> Mapping[str, str]:
    places = Taxonomy(KINDS["places"], rows.encode(), names, b"")
    return (
        TaxonomyMatcher({"places": places, "interests": packaged_taxonomies()["interests"]})
        .match([city("Halle", "DE")])
        .ids
    )


@pytest.mark.parametrize(
    ("platform", "text", "location", "what"),
    [
        ("google", "", "f", "does not start with Google's columns"),
        ("google", "Name,Id\n", "f", "does not start with Google's columns"),
        (
            "google",
            "Criteria ID,Name,Canonical Name,Parent ID,Country Code,Target Type,Status\n1,2\n",
            "f, line 2",
            "has 2",
        ),
        ("meta", "{", "f", "is not valid JSON"),
        ("meta", "[]", "f", "has no list data"),
        ("meta", '{"data": [1]}', "f, data[0]", "is not a JSON object"),
        ("meta", '{"data": [{"name": "x"}]}', "f, data[0].id", "is missing"),
        ("meta", '{"data": [{"id": true, "name": "x"}]}', "f, data[0].id", "neither a non-empty string nor an integer"),
        ("tiktok", '{"code": 40001, "message": "no", "data": {}}', "f", "has no list region_info or interest"),
        ("tiktok", '{"data": {"region_info": [{"name": "x"}]}}', "f, region_info[0].location_id", "is missing"),
        ("linkedin", '{"elements": [{"urn": "x"}]}', "f, elements[0].name", "is missing"),
    ],
)
def test_a_malformed_file_is_refused_with_its_location(platform: str, text: str, location: str, what: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        read_export(platform, text, "f")
    [violation] = caught.value.violations
    assert violation.field == location
    assert what in violation.description


def test_a_quote_that_is_never_closed_is_refused_with_its_line() -> None:
    head = "Criteria ID,Name,Canonical Name,Parent ID,Country Code,Target Type,Status"
    with pytest.raises(InvalidArgument) as caught:
        read_export("google", f'{head}\n1,"{"x" * (csv.field_size_limit() + 1)}', "f")
    assert [(each.field, "is not valid CSV" in each.description) for each in caught.value.violations] == [
        ("f, line 2", True)
    ]


def test_regions_that_are_each_other_s_parents_end() -> None:
    rows = [
        {"location_id": "1", "parent_id": "2", "name": "A", "region_code": "DE", "level": "CITY"},
        {"location_id": "2", "parent_id": "1", "name": "B", "region_code": "DE", "level": "PROVINCE"},
    ]
    first, second = read_export("tiktok", json.dumps({"data": {"region_info": rows}}), "f")
    assert (first.ancestors, second.ancestors) == (("B",), ("A",))


def test_a_city_whose_region_is_not_in_the_file_lies_in_it_all_the_same() -> None:
    row = {"location_id": "1", "parent_id": "2", "name": "Richmond", "region_code": "GB", "level": "CITY"}
    [richmond] = read_export("tiktok", json.dumps({"data": {"region_info": [row]}}), "f")
    assert (richmond.ancestors, matcher().match([richmond]).ids) == (("2",), {})


def test_a_behaviour_is_no_interest_whatever_it_is_called() -> None:
    rows = [{"id": "1", "name": "Sailing", "type": "behaviors"}, {"id": "2", "name": "Sailing", "type": "interests"}]
    assert matcher().match(read_export("meta", json.dumps({"data": rows}), "f")).ids == {"interest-660": "2"}


def test_a_region_does_not_lie_below_itself() -> None:
    row = {"key": "548", "name": "Bayern", "type": "region", "country_code": "DE", "region": "Bayern", "region_id": 548}
    assert matcher().match(read_export("meta", json.dumps({"data": [row]}), "f")).ids == {"subdivision-DE-BY": "548"}


def test_a_country_that_says_no_other_code_has_its_own() -> None:
    [entry] = read_export("meta", '{"data": [{"key": "XX", "name": "Germany", "type": "country"}]}', "f")
    assert (entry.country, matcher().match([entry]).ids) == ("XX", {})


def test_a_place_below_a_region_is_not_a_region() -> None:
    facet = "urn:li:adTargetingFacet:locations"
    names = ("Valencia, Valencian Community, Spain", "New York, New York, United States", "Bavaria, Germany")
    rows = [{"urn": str(number), "facetUrn": facet, "name": name} for number, name in enumerate(names)]
    links = matcher().match(read_export("linkedin", json.dumps({"elements": rows}), "f"))
    assert links.ids == {"city-2509954": "0", "city-5128581": "1", "subdivision-DE-BY": "2"}
