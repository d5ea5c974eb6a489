"""The packaged taxonomies have all rows of the packages and no others."""

import functools
import gzip
from collections import defaultdict
from importlib.resources import files

import pycountry
import pytest

from audience_service.domain.core.normalisation import normalise
from audience_service.domain.targeting.model import KINDS, LOCALES, Node
from audience_service.domain.targeting.taxonomy import Taxonomy, packaged_taxonomies


@functools.cache  # not a constant, which each process of a test run would build
def nodes_of(name: str) -> list[Node]:
    """All nodes of a taxonomy."""
    taxonomy = packaged_taxonomies()[name]
    return [taxonomy.node(number) for number in range(len(taxonomy))]


def of_kind(kind: str) -> list[Node]:
    """The places of a kind."""
    return [node for node in nodes_of("places") if node.kind == kind]


def places() -> Taxonomy:
    """The taxonomy of places."""
    return packaged_taxonomies()["places"]


@pytest.mark.slow
def test_countries_match_iso_3166_1() -> None:
    listed = {f"country-{country.alpha_2}": country.name for country in pycountry.countries}
    assert {node.id: node.name for node in of_kind("country")} == listed


def test_subdivisions_match_iso_3166_2() -> None:
    listed = {
        f"subdivision-{each.code}": (
            each.name,
            f"subdivision-{each.parent_code}" if each.parent_code else f"country-{each.country_code}",
        )
        for each in pycountry.subdivisions
        if each.code not in ("NO-30", "NO-38", "NO-54")  # dissolved on 1 January 2024
    }
    counties = {"31": "Østfold", "32": "Akershus", "33": "Buskerud", "39": "Vestfold", "40": "Telemark"}
    for code, name in {**counties, "55": "Troms", "56": "Finnmark"}.items():
        listed[f"subdivision-NO-{code}"] = (name, "country-NO")
    assert {node.id: (node.name, node.ancestors[-1].id) for node in of_kind("subdivision")} == listed


def test_languages_are_of_iso_639() -> None:
    for node in of_kind("language"):
        code = node.id.removeprefix("language-")
        language = pycountry.languages.get(**{"alpha_2" if len(code) == 2 else "alpha_3": code})
        assert language, node.id
        assert language.name == node.name
    two = {language.alpha_2 for language in pycountry.languages if hasattr(language, "alpha_2")}
    assert {f"language-{code}" for code in two} - {node.id for node in of_kind("language")} == set()


def test_cities_lie_in_their_country_by_a_parent_of_the_same() -> None:
    cities = of_kind("city")
    assert len(cities) > 30_000
    for city in cities:
        if city.country == "XK":  # Kosovo, which ISO 3166 does not have
            assert city.ancestors == ()
        else:
            assert city.ancestors[0].id == f"country-{city.country}"
            assert all(above.id.startswith(f"subdivision-{city.country}-") for above in city.ancestors[1:])
        assert city.coordinates
        assert -90 <= city.coordinates[0] <= 90
        assert -180 <= city.coordinates[1] <= 180


@pytest.mark.parametrize(
    ("city", "subdivision"),
    [
        ("city-3435910", "AR-C"),  # Buenos Aires, which is not in the province of that name
        ("city-3530597", "MX-CMX"),  # Mexico City, not in the state of Mexico
        ("city-3117735", "ES-MD"),  # Madrid: the community, above the province
        ("city-593116", "LT-VL"),  # Vilnius: the county, not the municipality around it
        ("city-3936456", "PE-LMA"),  # Lima, not in the region of Lima
        ("city-112931", "IR-23"),  # Tehran, whose code ISO has changed
        ("city-1816670", "CN-BJ"),  # Beijing, likewise
        ("city-706483", "UA-63"),  # Kharkiv, in an oblast that only resembles it by name
        ("city-5128581", "US-NY"),
        ("city-2643743", "GB-ENG"),
    ],
)
def test_cities_lie_in_the_subdivision_that_they_are_in(city: str, subdivision: str) -> None:
    number = places().number(city)
    assert number is not None
    assert places().node(number).ancestors[-1].id == f"subdivision-{subdivision}"


@pytest.mark.parametrize(
    ("city", "subdivision"),
    [
        ("city-1581130", "VN-HN"),  # Hanoi: GeoNames has renumbered Vietnam's codes
        ("city-1566083", "VN-SG"),  # Ho Chi Minh City, likewise
        ("city-1668341", "TW-TPE"),  # Taipei: GeoNames' divisions of Taiwan are none of ISO's
        ("city-385038", "BH-14"),  # Riffa: two codes are taken for one governorate
        ("city-151479", "TZ-29"),  # Njombe: iso3166-2-db calls its code Simiyu as well
        ("city-3067696", "CZ-10"),  # Prague
        ("city-792680", "RS-00"),  # Belgrade, by the second division
        ("city-3161732", "NO-46"),  # Bergen, in a county of 2020
        ("city-1283240", "NP-P3"),  # Kathmandu
    ],
)
def test_cities_with_renumbered_codes_have_the_subdivision_of_today(city: str, subdivision: str) -> None:
    number = places().number(city)
    assert number is not None
    assert places().node(number).ancestors[-1].id == f"subdivision-{subdivision}"


def test_98_of_100_cities_have_a_subdivision() -> None:
    cities = of_kind("city")
    assert sum(len(city.ancestors) > 1 for city in cities) * 100 > len(cities) * 98


def test_a_code_that_iso_has_given_to_another_subdivision_has_no_name_of_the_old_one() -> None:
    """CLDR calls IR-07 Tehran, which it was until 2020."""
    fars = next(node for node in of_kind("subdivision") if node.id == "subdivision-IR-07")
    assert fars.name == "Fārs"
    assert "Teheran" not in fars.localized.values()
    names = places().names.find_exact("tehran")
    assert {places().ids[number] for number in names if places().kind_of[number] == "subdivision"} == {
        "subdivision-IR-23"
    }


def test_interests_are_the_tree_of_the_iab() -> None:
    nodes = nodes_of("interests")
    assert len(nodes) == 1558
    assert [node.name for node in nodes if not node.ancestors] == ["Demographic", "Interest", "Purchase Intent"]
    care = next(node for node in nodes if node.id == "interest-1379")  # whose Parent ID is its own
    assert [above.name for above in care.ancestors] == ["Purchase Intent", "Family and Parenting", "Childcare"]
    rugby = next(node for node in nodes if node.id == "interest-658")
    assert ([above.name for above in rugby.ancestors], rugby.name) == (["Interest", "Sports", "Rugby"], "Rugby League")
    assert all(
        node.kind == normalise(node.ancestors[0].name if node.ancestors else node.name).replace(" ", "_")
        for node in nodes
    )


def test_options_are_constants_of_the_sdks_below_their_facets() -> None:
    nodes = nodes_of("options")
    assert {node.platform for node in nodes} == {"meta", "google", "tiktok"}
    ages = [node.value for node in nodes if node.ancestors and node.ancestors[0].id == "option-google-age_range_type"]
    assert ages == [
        "AGE_RANGE_18_24", "AGE_RANGE_25_34", "AGE_RANGE_35_44", "AGE_RANGE_45_54", "AGE_RANGE_55_64",
        "AGE_RANGE_65_UP", "AGE_RANGE_UNDETERMINED",
    ]  # fmt: skip
    genders = [node.value for node in nodes if node.ancestors and node.ancestors[0].id == "option-tiktok-gender"]
    assert genders == ["GENDER_FEMALE", "GENDER_MALE", "GENDER_UNLIMITED"]
    placements = [node.value for node in nodes if node.ancestors and node.ancestors[0].id == "option-tiktok-placements"]
    assert placements == ["PLACEMENT_TIKTOK", "PLACEMENT_PANGLE", "PLACEMENT_GLOBAL_APP_BUNDLE"]
    assert all((node.kind == "facet") == (not node.ancestors) == (node.child_count > 0) for node in nodes)


@pytest.mark.parametrize("name", KINDS)
def test_nodes_have_a_known_kind_a_name_and_a_source(name: str) -> None:
    assert {node.kind for node in nodes_of(name)} == set(KINDS[name])
    assert all(node.name and node.source for node in nodes_of(name))
    assert len({node.id for node in nodes_of(name)}) == len(nodes_of(name))
    assert {code for node in nodes_of(name) for code in node.localized} <= set(LOCALES)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_every_node_is_found_by_its_name_and_its_localised_names(name: str) -> None:
    taxonomy = packaged_taxonomies()[name]
    for number, node in enumerate(nodes_of(name)):
        for text in (node.name, *node.localized.values()):
            assert number in taxonomy.names.find_exact(normalise(text)), (node.id, text)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_the_indexes_contain_sorted_normalised_names_and_later_words(name: str) -> None:
    names, words = (_lines(name, part) for part in ("names", "words"))
    assert [list(names), list(words)] == [sorted(names), sorted(words)]
    assert all(normalise(entry.decode()).encode() == entry for entry in names)
    later: dict[bytes, set[int]] = defaultdict(set)
    for entry, numbers in names.items():
        parts = entry.split(b" ")
        for start in range(1, len(parts)):
            later[b" ".join(parts[start:])] |= numbers
    assert words == later


def test_packaged_taxonomies_are_read_once() -> None:
    assert packaged_taxonomies() is packaged_taxonomies()
    assert isinstance(places(), Taxonomy)


def _lines(name: str, part: str) -> dict[bytes, set[int]]:
    packed = (files("audience_service.domain.targeting") / "data" / f"{name}.{part}.gz").read_bytes()
    lines = (line.split(b"\t") for line in gzip.decompress(packed).splitlines())
    return {text: {int(number) for number in numbers.split()} for text, numbers in lines}
