"""Every repository method keeps to its org, even where two orgs use the very same ids."""

from typing import Any

import pytest

from audience_service.domain.audiences.references import AudienceUse, Usage
from audience_service.domain.core.errors import AudienceNotFound, ContactNotFound, UnsupportedByStore, VersionNotFound
from audience_service.domain.filters import Filter, FilterCompiler
from audience_service.domain.filters.member_list import MemberList
from audience_service.domain.filters.population import Population
from audience_service.domain.filters.set_operations import list_filter
from audience_service.domain.insights.dimensions import parse_dimensions
from audience_service.domain.segments.model import Segment, SegmentQuery, SegmentType
from audience_service.mongo.embedded.overrides import EmbeddedInsights
from audience_service.mongo.store import Store
from tests.support.tenants import ALL_CONTACTS, LIST, NEW_YEAR, NO_DEADLINE, REQUEST


def listed(store: Store, org: str) -> list[str]:
    """The ids on an org's list."""
    return [pk for pk, _ in store.lists.page(org, LIST, 100, "", NO_DEADLINE)]


def test_reading_a_list_sees_the_orgs_own_rows(orgs: tuple[Store, str, str]) -> None:
    store, ours, theirs = orgs
    assert listed(store, ours) == ["contact-a", "contact-b"]
    assert listed(store, theirs) == [f"contact-{key}" for key in "abcd"]
    assert store.lists.sizes(ours, [LIST.list_id], NO_DEADLINE) == {LIST.list_id: 2}
    assert store.members.count(ours, LIST, NO_DEADLINE) == 2
    streamed = [r["sk"] for batch in store.members.stream(ours, LIST, [], 10, "", NO_DEADLINE) for r in batch]
    assert streamed == [f"{ours}/contact/a", f"{ours}/contact/b"]
    count, sample = store.members.reach(ours, LIST, NO_DEADLINE)
    assert count == 2
    assert sample is not None
    assert sample["sk"].startswith(f"{ours}/")


def test_changing_a_list_changes_the_orgs_own_rows(orgs: tuple[Store, str, str]) -> None:
    store, ours, theirs = orgs
    assert store.lists.remove(ours, LIST, ["contact-a", "contact-c"], NO_DEADLINE) == 1
    assert len(listed(store, theirs)) == 4
    with pytest.raises(ContactNotFound):
        store.lists.add(ours, LIST, ["contact-c"], NO_DEADLINE)
    store.lists.clear(ours, LIST)
    assert (listed(store, ours), len(listed(store, theirs))) == ([], 4)


@pytest.mark.parametrize("population", [ALL_CONTACTS, LIST])
def test_freezing_takes_the_orgs_own_members(orgs: tuple[Store, str, str], population: Any) -> None:
    store, ours, theirs = orgs
    copy = MemberList(f"segment-copy{ours}", "contact")
    store.lists.add_members(ours, copy, population, NO_DEADLINE)
    assert [pk for pk, _ in store.lists.page(ours, copy, 100, "", NO_DEADLINE)] == ["contact-a", "contact-b"]
    assert store.lists.page(theirs, copy, 100, "", NO_DEADLINE) == []


def test_segments_with_the_same_id_are_isolated(orgs: tuple[Store, str, str]) -> None:
    store, ours, theirs = orgs
    for org in (ours, theirs):
        assert store.segments.get(org, LIST.list_id, NO_DEADLINE).name == f"of {org}"
        page = store.segments.page(org, SegmentQuery(), 10, None, NO_DEADLINE)
        assert ([item.name for item in page.items], page.total) == ([f"of {org}"], 1)
        assert store.segments.find(org, LIST.list_id, NO_DEADLINE).name == f"of {org}"
    current = store.segments.get(ours, LIST.list_id, NO_DEADLINE)
    touched = store.segments.touch(ours, current, NO_DEADLINE)
    assert (touched.version, store.segments.save(ours, touched, NO_DEADLINE).version) == (1, 2)
    assert store.segments.get(theirs, LIST.list_id, NO_DEADLINE).version == 0


def test_versions_with_the_same_id_are_isolated(orgs: tuple[Store, str, str]) -> None:
    store, ours, theirs = orgs
    for org, writes in ((ours, 1), (theirs, 3)):
        for _ in range(writes):
            store.segments.touch(org, store.segments.get(org, LIST.list_id, NO_DEADLINE), NO_DEADLINE)
    for org, writes in ((ours, 1), (theirs, 3)):
        page = store.versions.page(org, LIST.list_id, None, 10, NO_DEADLINE)
        assert ([item.version for item in page.versions], page.total) == ([*range(writes, -1, -1)], writes + 1)
        assert {item.name for item in page.versions} == {f"of {org}"}
        assert store.versions.get(org, LIST.list_id, 0, NO_DEADLINE).name == f"of {org}"
    with pytest.raises(VersionNotFound):
        store.versions.get(ours, LIST.list_id, 2, NO_DEADLINE)
    below = store.versions.page(ours, LIST.list_id, 3, 10, NO_DEADLINE)
    assert [item.version for item in below.versions] == [0], "a key of another org's shows nothing of it"


def test_uses_of_the_same_audience_id_are_isolated(orgs: tuple[Store, str, str]) -> None:
    store, ours, theirs = orgs
    use = AudienceUse(LIST.list_id, "campaign", "spring", registrant="ann", created_at=NEW_YEAR)
    referring = {"$and": [{"$inAudience": LIST.list_id}]}
    for name, version in (("noted", 0), ("unnoted", 7)):
        made = Segment(f"segment-{name}", f"{name} {ours}", "", SegmentType.DYNAMIC, Filter("contact", referring))
        store.segments.insert(theirs, made, None, NO_DEADLINE)
        store.database["segment"].update_one({"pk": made.id, "sk": {"$regex": theirs}}, {"$set": {"version": version}})
    assert store.uses.add(theirs, use, NO_DEADLINE) == use
    assert store.uses.usage(ours, LIST.list_id, 9, NO_DEADLINE) == Usage((), 0, (), 0)
    store.uses.undo_add(ours, use, NO_DEADLINE)
    assert not store.uses.remove(ours, use, NO_DEADLINE)
    usage = store.uses.usage(theirs, LIST.list_id, 9, NO_DEADLINE)
    assert (usage.segment_count, usage.uses, usage.use_count) == (2, (use,), 1)
    assert store.uses.add(ours, use, NO_DEADLINE) == use
    assert store.uses.remove(theirs, use, NO_DEADLINE)
    assert store.uses.usage(ours, LIST.list_id, 9, NO_DEADLINE).use_count == 1


def test_names_and_requests_are_an_orgs_own(orgs: tuple[Store, str, str]) -> None:
    store, ours, theirs = orgs
    assert not store.segments.is_name_taken(ours, f"of {theirs}", "", NO_DEADLINE)
    assert store.segments.is_name_taken(ours, f"of {ours}", "", NO_DEADLINE)
    assert not store.segments.is_name_taken(ours, f"of {ours}", LIST.list_id, NO_DEADLINE)
    made = Segment("segment-requested", f"requested {ours}", "", SegmentType.DYNAMIC, Filter("contact", {}))
    store.segments.insert(theirs, made, REQUEST, NO_DEADLINE)
    assert store.segments.find_by_key(ours, REQUEST, NO_DEADLINE) is None
    assert store.segments.find_by_key(theirs, REQUEST, NO_DEADLINE) is not None
    with pytest.raises(AudienceNotFound):
        store.segments.get(ours, made.id, NO_DEADLINE)


def test_a_filters_members_are_the_orgs_own_after_any_key(orgs: tuple[Store, str, str]) -> None:
    store, ours, theirs = orgs
    assert (
        store.members.count(ours, ALL_CONTACTS, NO_DEADLINE),
        store.members.count(theirs, ALL_CONTACTS, NO_DEADLINE),
    ) == (
        2,
        4,
    )
    for after in ("", "a", theirs, f"{ours}/contact/a"):
        for population in (ALL_CONTACTS, LIST):
            batches = store.members.stream(ours, population, [], 10, after, NO_DEADLINE)
            assert all(record["sk"].startswith(f"{ours}/") for batch in batches for record in batch)


@pytest.mark.parametrize("population", [ALL_CONTACTS, LIST])
def test_parts_of_a_population_are_the_orgs_own_between_any_keys(orgs: tuple[Store, str, str], population: Any) -> None:
    store, ours, theirs = orgs
    assert store.slices.key_sample(ours, population, NO_DEADLINE).total == 2
    assert store.slices.key_sample(theirs, population, NO_DEADLINE).total == 4
    keys = [f"{org}/contact/{key}" for org in (ours, theirs) for key in "abcd"]
    assert sorted(store.slices.filter_keys(ours, population, keys, NO_DEADLINE)) == keys[:2]
    for after, until, count in (("", "", 2), ("a", "z", 2), (keys[0], "", 1), (keys[0], keys[7], 1), ("", keys[0], 1)):
        assert store.slices.count_range(ours, population, after, until, NO_DEADLINE) == count
        found = store.slices.first_in_range(ours, population, after, until, NO_DEADLINE)
        assert found is not None
        assert found["sk"] in keys[:2]
    assert store.slices.first_in_range(ours, population, keys[1], keys[7], NO_DEADLINE) is None


def test_regions_count_the_orgs_own_members(orgs: tuple[Store, str, str]) -> None:
    store, ours, theirs = orgs
    of_list = FilterCompiler(["contact"]).compile(Filter("contact", {"$inAudience": LIST.list_id}), lambda _: LIST)
    pairs: list[list[Population]] = [
        [ALL_CONTACTS, LIST],
        [LIST, LIST],
        [ALL_CONTACTS, ALL_CONTACTS],
        [ALL_CONTACTS, of_list],
    ]
    for pair in pairs:
        for org, members in ((ours, 2), (theirs, 4)):
            counts = store.members.regions(org, pair, NO_DEADLINE)
            assert {mask: count for mask, count in counts.items() if count} == {0b11: members}
    assert dict(store.members.regions(ours, [ALL_CONTACTS, LIST, of_list], NO_DEADLINE)) == {0b111: 2}


@pytest.mark.parametrize("population", [ALL_CONTACTS, LIST], ids=["filter", "list"])
def test_insights_are_of_the_orgs_own_records(orgs: tuple[Store, str, str], population: Any) -> None:
    store, ours, theirs = orgs
    if isinstance(store.insights, EmbeddedInsights):
        with pytest.raises(UnsupportedByStore):
            store.insights.breakdown(ours, population, parse_dimensions(["state"]), NEW_YEAR, 10, NO_DEADLINE)
        return
    for org, size in ((ours, 2), (theirs, 4)):
        found = store.insights.breakdown(org, population, parse_dimensions(["state"]), NEW_YEAR, 10, NO_DEADLINE)
        assert (found.size, [cell.count for cell in found.dimensions[0].buckets]) == (size, [size])


def test_checks_see_the_orgs_own_records_segments_and_lists(orgs: tuple[Store, str, str]) -> None:
    store, ours, theirs = orgs
    ids = [f"contact-{key}" for key in "abcd"]
    populations = [ALL_CONTACTS, list_filter(LIST)]
    for org, members in ((ours, ids[:2]), (theirs, ids)):
        assert store.checks.find(org, "contact", ids, NO_DEADLINE) == set(members)
        results = store.checks.evaluate(org, "contact", populations, ids, ["sk"], NO_DEADLINE)
        assert list(results.members) == [frozenset(members)] * 2
        assert {record["sk"] for record in results.records.values()} == {
            f"{org}/contact/{name[-1]}" for name in members
        }
        assert {found.name for found in store.segments.get_many(org, [LIST.list_id], NO_DEADLINE).values()} == {
            f"of {org}"
        }
    store.lists.remove(ours, LIST, ids, NO_DEADLINE)
    assert list(store.checks.evaluate(ours, "contact", populations, ids, [], NO_DEADLINE).members) == [
        frozenset(ids[:2]),
        frozenset(),
    ]
