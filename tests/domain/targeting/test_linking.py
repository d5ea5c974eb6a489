"""Exports of the ad platforms, in their true shape: what they link to, and why the rest does not."""

import json
from pathlib import Path
from typing import Any

import pytest

from audience_service.domain.errors import InvalidArgument
from audience_service.domain.targeting.exports import Entry, read_export
from audience_service.domain.targeting.linking import Linker
from audience_service.domain.targeting.taxonomy import packaged_taxonomies

DATA = Path(__file__).parents[2] / "data"
CASES = json.loads((DATA / "exports.json").read_text())
LINKER = Linker(packaged_taxonomies())


@pytest.mark.parametrize("case", CASES, ids=[case["file"] for case in CASES])
def test_an_export_links_what_is_the_same_and_names_the_rest(case: dict[str, Any]) -> None:
    text = (DATA / "exports" / case["file"]).read_text()
    links = LINKER.link(read_export(case["platform"], text, case["file"]))
    assert links.ids == case["ids"]
    assert {each.entry.name: each.reason for each in links.unlinked} == case["unlinked"]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (Entry("1", "Springfield", ("city",), "US"), "nodes have its name"),
        (Entry("1", "Springfield", ("city",), "US", above=("Ohio", "Clark County")), ""),
        (Entry("1", "Springfield", ("city",), "US", above=("Bavaria",)), "not known to lie in Bavaria"),
        (Entry("1", "Munich", ("city",), "FR"), "no node of its type has its name there"),
        (Entry("1", "Munich", ("city",), country_name="Atlantis"), "no country is called Atlantis"),
        (Entry("1", "Munich", ("city",), country_name="Allemagne"), ""),
        (Entry("1", "Atlantis", ("country",), "XX", code="XX"), "no node of its type has its name there"),
        (Entry("1", "Germany", ("country",), "DE", code="DE"), ""),
        (Entry("1", "Hong Kong", ("city",), "HK", above=("Hong Kong",)), ""),
    ],
)
def test_a_name_alone_decides_only_where_one_node_has_it(entry: Entry, reason: str) -> None:
    links = LINKER.link([entry])
    assert [bool(reason)] == [bool(links.unlinked)]
    assert not links.unlinked or reason in links.unlinked[0].reason


def test_of_two_entries_for_one_node_the_one_with_its_very_name_is_linked() -> None:
    munich, other = (Entry(key, name, ("city",), "DE") for key, name in (("1", "Munich"), ("2", "München")))
    assert LINKER.link([other, munich]).ids == {"city-2867714": "1"}
    twice = LINKER.link([munich, Entry("3", "Munich", ("city",), "DE")])
    assert (twice.ids, len(twice.unlinked)) == ({}, 2)
    assert LINKER.link([munich, munich]).ids == {"city-2867714": "1"}


@pytest.mark.parametrize(
    ("platform", "text", "place", "what"),
    [
        ("google", "", "f", "does not begin with Google's columns"),
        ("google", "Name,Id\n", "f", "does not begin with Google's columns"),
        (
            "google",
            "Criteria ID,Name,Canonical Name,Parent ID,Country Code,Target Type,Status\n1,2\n",
            "f, line 2",
            "has 2",
        ),
        ("meta", "{", "f", "is no JSON"),
        ("meta", "[]", "f", "has no list data"),
        ("meta", '{"data": [1]}', "f, data[0]", "is no object"),
        ("meta", '{"data": [{"name": "x"}]}', "f, data[0].id", "is missing"),
        ("meta", '{"data": [{"id": true, "name": "x"}]}', "f, data[0].id", "neither text nor a whole number"),
        ("tiktok", '{"code": 40001, "message": "no", "data": {}}', "f", "has no list languages"),
        ("tiktok", '{"data": {"region_info": [{"name": "x"}]}}', "f, region_info[0].location_id", "is missing"),
        ("linkedin", '{"elements": [{"urn": "x"}]}', "f, elements[0].name", "is missing"),
    ],
)
def test_a_file_of_another_form_is_refused_with_the_place(platform: str, text: str, place: str, what: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        read_export(platform, text, "f")
    [violation] = caught.value.violations
    assert violation.field == place
    assert what in violation.description


def test_regions_that_are_each_other_s_parents_end() -> None:
    rows = [
        {"location_id": "1", "parent_id": "2", "name": "A", "region_code": "DE", "level": "CITY"},
        {"location_id": "2", "parent_id": "1", "name": "B", "region_code": "DE", "level": "PROVINCE"},
    ]
    first, second = read_export("tiktok", json.dumps({"data": {"region_info": rows}}), "f")
    assert (first.above, second.above) == (("B",), ("A",))
