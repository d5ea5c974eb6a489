"""JSON over HTTP: the bodies that the platform's page sends and shows, to the letter."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Service
from tests.http.conftest import VIP, Gateway

pytestmark = pytest.mark.slow

REACH = {"filter": {"datatype": "contact", "where": {"country": "US", "tags": {"$in": ["lead", "mql"]}}}}
TIMESTAMP_PATTERN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def test_post_segments_answers_with_the_bare_segment(gateway: Gateway) -> None:
    answer = gateway.fetch("POST", "/segments", VIP)
    assert answer.status == 200
    made = answer.body
    assert {name: made[name] for name in VIP} == VIP
    assert made["id"].startswith("segment-")
    assert (made["version"], made["state"], made["author"]) == (0, "active", "ann")
    assert TIMESTAMP_PATTERN.fullmatch(made["createTime"])
    assert TIMESTAMP_PATTERN.fullmatch(made["updateTime"])
    assert "contactCount" not in made


def test_post_segments_freezes_a_list_and_counts_it_as_a_number(
    gateway: Gateway, insert: Callable[..., list[str]]
) -> None:
    ids = insert([{"data": {"tags": ["vip"]}}])
    full = gateway.fetch("POST", "/segments", {"name": "one", "type": "static", "contactIds": ids}).body
    empty = gateway.fetch("POST", "/segments", {"name": "none", "type": "static"}).body
    assert (full["type"], full["contactCount"], empty["contactCount"]) == ("static", 1, 0)


def test_get_segment_shows_the_bare_segment(gateway: Gateway, segment: dict[str, Any]) -> None:
    answer = gateway.fetch("GET", f"/segments/{segment['id']}")
    assert (answer.status, answer.body) == (200, segment)


def test_get_segments_lists_with_a_total_of_0_and_more(gateway: Gateway) -> None:
    assert gateway.fetch("GET", "/segments").body == {"segments": [], "nextPageToken": "", "totalSize": 0}
    made = gateway.fetch("POST", "/segments", VIP).body
    listed = {**made, "warnings": []}
    assert gateway.fetch("GET", "/segments").body == {"segments": [listed], "nextPageToken": "", "totalSize": 1}


def test_get_segments_takes_its_fields_from_the_query(gateway: Gateway, segment: dict[str, Any]) -> None:
    for name in ("one", "two"):
        gateway.fetch("POST", "/segments", {**VIP, "name": name})
    first = gateway.fetch("GET", "/segments?pageSize=2&orderBy=name&type=dynamic").body
    assert ([s["name"] for s in first["segments"]], first["totalSize"]) == (["one", "two"], 3)
    rest = gateway.fetch(
        "GET", f"/segments?pageSize=2&orderBy=name&type=dynamic&pageToken={first['nextPageToken']}"
    ).body
    assert ([s["name"] for s in rest["segments"]], rest["nextPageToken"]) == (["VIP recent openers"], "")
    assert gateway.fetch("GET", "/segments?name=tw").body["totalSize"] == 1


def test_put_segment_replaces_it_and_counts_the_version_up(gateway: Gateway, segment: dict[str, Any]) -> None:
    body = {"name": "Stars", "filter": {"datatype": "contact", "where": {"score": {"$gte": 90}}}, "type": "dynamic"}
    answer = gateway.fetch("PUT", f"/segments/{segment['id']}", {**body, "version": 0})
    assert answer.status == 200
    assert {name: answer.body[name] for name in body} == body
    assert (answer.body["id"], answer.body["version"], answer.body["description"]) == (segment["id"], 1, "")
    stale = gateway.fetch("PUT", f"/segments/{segment['id']}", {**body, "version": 0})
    assert (stale.status, stale.body["code"], stale.reason) == (409, 10, "STALE_VERSION")


def test_put_segment_takes_back_what_get_showed(gateway: Gateway, segment: dict[str, Any]) -> None:
    answer = gateway.fetch("PUT", f"/segments/{segment['id']}", segment)
    assert answer.status == 200
    assert answer.body == {**segment, "version": 1, "updateTime": answer.body["updateTime"]}


@pytest.fixture
def other(gateway: Gateway) -> dict[str, Any]:
    """A second segment, which no path of the test names."""
    made: dict[str, Any] = gateway.fetch("POST", "/segments", {**VIP, "name": "Other"}).body
    return made


def test_an_id_in_the_body_never_overrides_the_path(
    gateway: Gateway, segment: dict[str, Any], other: dict[str, Any]
) -> None:
    """A body with the id of another segment is a 400, and both segments stay as they were."""
    answer = gateway.fetch("PUT", f"/segments/{segment['id']}", {**VIP, "name": "Renamed", "id": other["id"]})
    assert (answer.status, answer.body["code"]) == (400, 3)
    for made in (segment, other):
        assert gateway.fetch("GET", f"/segments/{made['id']}").body == made


@pytest.mark.parametrize("name", ["id", "segment.id", "segment%2Eid", "i%64", "ID"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_an_id_in_the_query_never_overrides_the_path(
    gateway: Gateway, segment: dict[str, Any], other: dict[str, Any], method: str, name: str
) -> None:
    """The segment of the path is read or written, or the call is a 400; the other segment stays as it was."""
    body = {**VIP, "name": "Renamed"} if method == "PUT" else None
    answer = gateway.fetch(method, f"/segments/{segment['id']}?{name}={other['id']}", body)
    assert answer.status == 400 or (answer.status, answer.body["id"]) == (200, segment["id"])
    assert gateway.fetch("GET", f"/segments/{other['id']}").body == other


@pytest.mark.parametrize("name", ["audience_id", "audienceId", "other_audience_id", "otherAudienceId"])
@pytest.mark.parametrize("path", ["insights", "overlap"])
def test_an_audience_in_the_query_never_overrides_the_path(
    gateway: Gateway, segment: dict[str, Any], other: dict[str, Any], path: str, name: str
) -> None:
    """Insights and overlap answer for the audiences of the path alone."""
    everyone = gateway.fetch("POST", "/segments", {"name": "all", "filter": {"datatype": "contact", "where": {}}}).body
    path = f"/segments/{segment['id']}/{path}" + (f"/{other['id']}" if path == "overlap" else "")
    refused = gateway.fetch("GET", f"{path}?{name}={everyone['id']}")
    assert (refused.status, refused.reason) == (400, "INVALID_FIELD")


def test_delete_segment_shows_it_deleted_and_then_it_is_not_found(gateway: Gateway, segment: dict[str, Any]) -> None:
    path = f"/segments/{segment['id']}"
    deleted = gateway.fetch("DELETE", f"{path}?version=0")
    assert (deleted.status, deleted.body["state"], deleted.body["id"]) == (200, "deleted", segment["id"])
    missing = gateway.fetch("GET", path)
    assert (missing.status, missing.body["code"], missing.reason) == (404, 5, "AUDIENCE_NOT_FOUND")


def test_delete_segment_in_use_takes_force(
    gateway: Gateway, service: Service, org: str, segment: dict[str, Any]
) -> None:
    use = {"audienceId": segment["id"], "consumerKind": "campaign", "consumerId": "spring"}
    service.client(org).call("RegisterUse", {"use": use})
    refused = gateway.fetch("DELETE", f"/segments/{segment['id']}")
    assert (refused.status, refused.body["code"], refused.reason) == (400, 9, "AUDIENCE_IN_USE")
    assert gateway.fetch("DELETE", f"/segments/{segment['id']}?force=true").body["state"] == "deleted"


def test_custom_audiences_are_created_and_listed_with_their_spec(gateway: Gateway) -> None:
    body = {
        "name": "Visitors",
        "type": "retargeting_pixel",
        "retargetingPixel": {"where": {"type": "page_view", "url": "/pricing"}, "withinDays": 30},
    }
    answer = gateway.fetch("POST", "/custom", body)
    assert answer.status == 200
    made = answer.body
    assert made["id"].startswith("custom-")
    assert (made["version"], made["state"], "contactCount" in made) == (0, "active", False)
    assert (made["creationState"], made["progress"], made["error"]) == ("CREATION_STATE_READY", 100, "")
    assert made["retargetingPixel"] == {
        "eventDatatype": "event",
        "where": {"type": "page_view", "url": "/pricing"},
        "withinDays": 30,
        "dateField": "createdate",
        "contactField": "contactId",
        "minEvents": 1,
    }
    listed = gateway.fetch("GET", "/custom?type=retargeting_pixel&pageSize=5").body
    assert listed == {"customAudiences": [made], "nextPageToken": "", "totalSize": 1}
    refused = gateway.fetch("POST", "/custom", {**body, "type": "file_upload"})
    assert (refused.status, refused.reason) == (400, "INVALID_FIELD")


def test_a_lookalike_is_created_with_its_spec(gateway: Gateway, segment: dict[str, Any]) -> None:
    like = {"sourceAudienceId": segment["id"], "share": 0.1, "countries": ["US"], "excludeFields": ["tags"]}
    small = gateway.fetch("POST", "/custom", {"name": "Like", "type": "lookalike", "lookalike": like})
    assert (small.status, small.body["code"], small.reason) == (400, 9, "SEED_TOO_SMALL")
    wrong = gateway.fetch("POST", "/custom", {"name": "Like", "type": "lookalike", "lookalike": {**like, "share": 0.9}})
    assert (wrong.status, wrong.reason) == (400, "INVALID_FIELD")


def test_custom_audience_types_lists_each_type(gateway: Gateway) -> None:
    types = gateway.fetch("GET", "/custom-types").body["types"]
    assert [each["type"] for each in types] == ["file_upload", "customer_match", "lookalike", "retargeting_pixel"]
    assert all(each["title"] and each["description"] and each["fields"] and each["rules"] for each in types)


def test_estimate_reach_shows_a_number_and_a_sample_profile(gateway: Gateway, insert: Callable[..., list[str]]) -> None:
    insert([{"data": {"country": "US", "tags": ["mql"], "email": "ann@example.com"}}, {"data": {"country": "FR"}}])
    answer = gateway.fetch("POST", "/estimate-reach", REACH)
    assert answer.status == 200
    assert {name: answer.body[name] for name in ("count", "exact", "lowerBound", "upperBound")} == {
        "count": 1,
        "exact": True,
        "lowerBound": 1,
        "upperBound": 1,
    }
    assert answer.body["sampleProfile"] == {"country": "US", "tags": ["mql"], "email": "a***@example.com"}


def test_estimate_reach_shows_a_count_of_0(gateway: Gateway) -> None:
    answer = gateway.fetch("POST", "/estimate-reach", REACH)
    assert (answer.status, "sampleProfile" in answer.body) == (200, False)
    assert [answer.body[name] for name in ("count", "exact", "lowerBound", "upperBound")] == [0, True, 0, 0]


def test_estimate_reach_takes_the_complete_selector(gateway: Gateway, insert: Callable[..., list[str]]) -> None:
    """Exclusions are next to the filter in the body."""
    ids = insert([{"data": {"country": "US", "tags": ["mql"]}}, {"data": {"country": "US", "tags": ["lead"]}}])
    listed = gateway.fetch("POST", "/segments", {"name": "one", "type": "static", "contactIds": ids[:1]}).body
    answer = gateway.fetch("POST", "/estimate-reach", {**REACH, "excludeAudienceIds": [listed["id"]]})
    assert (answer.status, answer.body["count"]) == (200, 1)
    union = {"audienceIds": [listed["id"]], "excludeAudienceIds": [listed["id"]]}
    assert gateway.fetch("POST", "/estimate-reach", union).body["count"] == 0


def test_estimate_reach_takes_a_budget(gateway: Gateway) -> None:
    answer = gateway.fetch("POST", "/estimate-reach", {**REACH, "exactCountTimeout": "2.5s"})
    assert (answer.status, answer.body["exact"]) == (200, True)
    refused = gateway.fetch("POST", "/estimate-reach", {**REACH, "exactCountTimeout": "-1s"})
    assert (refused.status, refused.reason) == (400, "INVALID_FIELD")


def test_overlap_shows_counts_of_0_and_shares(
    gateway: Gateway, segment: dict[str, Any], insert: Callable[..., list[str]]
) -> None:
    ids = insert([{"data": {"country": "US"}}, {"data": {"country": "FR"}}])
    all_contacts = gateway.fetch(
        "POST", "/segments", {"name": "all", "filter": {"datatype": "contact", "where": {}}}
    ).body
    listed = gateway.fetch("POST", "/segments", {"name": "one", "type": "static", "contactIds": ids[:1]}).body
    answer = gateway.fetch("GET", f"/segments/{all_contacts['id']}/overlap/{segment['id']}")
    assert answer.status == 200
    assert TIMESTAMP_PATTERN.fullmatch(answer.body.pop("readTime"))
    shares = ("jaccard", "shareOfAudience", "shareOfOther")
    assert answer.body == {"count": 0, "size": 2, "otherSize": 0, **dict.fromkeys(shares, 0)}
    half = gateway.fetch("GET", f"/segments/{all_contacts['id']}/overlap/{listed['id']}").body
    assert TIMESTAMP_PATTERN.fullmatch(half.pop("readTime"))
    assert half == {"count": 1, "size": 2, "otherSize": 1, **dict(zip(shares, (0.5, 0.5, 1), strict=True))}


def test_insights_take_a_query_for_the_size_over_time(
    gateway: Gateway, service: Service, segment: dict[str, Any]
) -> None:
    path = f"/segments/{segment['id']}/insights?dimensions=source&sizeHistory.pointCount"
    answer = gateway.fetch("GET", f"{path}=5&sizeHistory.startTime=2026-03-01T12:00:00Z")
    if service.kind == "embedded":
        assert (answer.status, answer.reason) == (501, "UNSUPPORTED_BY_STORE")
        return
    assert answer.status == 200
    assert answer.body["sizeHistory"] == {"watched": False, "points": []}
    refused = gateway.fetch("GET", f"{path}=101")
    assert (refused.status, refused.reason) == (400, "INVALID_FIELD")


def test_insights_show_dimensions_with_their_buckets(
    gateway: Gateway, service: Service, insert: Callable[..., list[str]], segment: dict[str, Any]
) -> None:
    opened = {"tags": ["vip"], "lastEmailOpenedAt": "2026-04-01T00:00:00.000Z"}
    insert([{"data": {**opened, "source": "ads"}} for _ in range(5)] + [{"data": {}} for _ in range(5)])
    answer = gateway.fetch("GET", f"/segments/{segment['id']}/insights?dimensions=source&dimensions=score&maxBuckets=5")
    if service.kind == "embedded":
        assert (answer.status, answer.reason) == (501, "UNSUPPORTED_BY_STORE")
        return
    assert answer.status == 200
    assert (answer.body["count"], answer.body["baselineCount"], answer.body["minBucketSize"]) == (5, 10, 5)
    source, score = answer.body["dimensions"]
    assert source["buckets"][0] == {
        "kind": "value",
        "value": "ads",
        "count": 5,
        "combinedValueCount": 1,
        "share": 1,
        "baselineCount": 5,
        "baselineShare": 0.5,
        "index": 200,
    }
    assert (score["name"], score["paths"]) == ("score", ["data.score", "data.leadScore"])
    assert "quantiles" not in score


def test_the_three_taxonomies_are_searched_by_get(gateway: Gateway) -> None:
    path = "/locations?query=M%C3%BCnchen&kind=city&country=de&languages=de&languages=fr&pageSize=1"
    places = gateway.fetch("GET", path)
    assert places.status == 200
    [munich] = places.body["nodes"]
    assert (munich["id"], munich["parentId"], munich["population"]) == ("city-2867714", "subdivision-DE-BY", 1505005)
    assert munich["coordinates"] == {"latitude": 48.13743, "longitude": 11.57549}
    assert munich["platformIds"] == munich["localizedNames"] == {}
    assert (places.body["totalSize"] > 1, places.body["nextPageToken"] != "") == (True, True)
    country = gateway.fetch("GET", "/locations?query=allemagne&languages=de&pageSize=1").body["nodes"][0]
    assert (country["id"], country["localizedNames"]) == ("country-DE", {"de": "Deutschland"})
    interests = gateway.fetch("GET", "/interests?parentId=interest-657").body
    assert [node["name"] for node in interests["nodes"]] == ["Rugby League", "Rugby Union"]
    assert [above["name"] for above in interests["nodes"][0]["ancestors"]] == ["Interest", "Sports", "Rugby"]
    options = gateway.fetch("GET", "/targeting-options?platform=facebook&kind=facet&query=device").body
    assert [(node["platform"], node["value"]) for node in options["nodes"]] == [("meta", "device_platforms")]
    refused = gateway.fetch("GET", "/targeting-options?platform=linkedin")
    assert (refused.status, refused.reason) == (400, "PLATFORM_NOT_IMPORTED")


def test_a_segment_has_versions_and_returns_to_an_older_one(gateway: Gateway, segment: dict[str, Any]) -> None:
    path = f"/segments/{segment['id']}"
    gateway.fetch("PUT", f"{path}?updateMask=name", {"name": "Stars"})
    rolled = gateway.fetch("POST", f"{path}/rollback", {"targetVersion": 0})
    assert (rolled.status, rolled.body["name"], rolled.body["version"]) == (200, VIP["name"], 2)
    gateway.fetch("DELETE", path)
    back = gateway.fetch("POST", f"{path}/undelete", {})
    assert (back.status, back.body["name"], back.body["state"]) == (200, VIP["name"], "active")
    versions = gateway.fetch("GET", f"{path}/versions?pageSize=2").body
    assert ([each["version"] for each in versions["versions"]], versions["totalSize"]) == ([4, 3], 5)
    again = gateway.fetch("POST", f"{path}/undelete", {})
    assert (again.status, again.reason) == (409, "NOT_DELETED")


def test_usage_lists_what_uses_an_audience(gateway: Gateway, segment: dict[str, Any]) -> None:
    inner = {"$inAudience": segment["id"]}
    gateway.fetch("POST", "/segments", {"name": "Outer", "filter": {"datatype": "contact", "where": inner}})
    usage = gateway.fetch("GET", f"/segments/{segment['id']}/usage").body
    assert ([each["name"] for each in usage["segments"]], usage["useCount"]) == (["Outer"], 0)


def test_a_sync_is_created_changed_and_deleted(gateway: Gateway, segment: dict[str, Any]) -> None:
    body = {"name": "Meta", "platform": "meta", "audienceIds": [segment["id"]], "fields": ["email"]}
    made = gateway.fetch("POST", "/syncs", {**body, "requestId": "r1"})
    assert (made.status, made.body["name"]) == (200, "Meta")
    assert gateway.fetch("POST", "/syncs?requestId=r1", body).body["id"] == made.body["id"]
    path = f"/syncs/{made.body['id']}"
    assert gateway.fetch("GET", path).body == made.body
    assert [each["id"] for each in gateway.fetch("GET", "/syncs?platform=meta").body["syncs"]] == [made.body["id"]]
    assert gateway.fetch("PUT", f"{path}?updateMask=name", {"name": "Ads"}).body["name"] == "Ads"
    assert gateway.fetch("DELETE", path).body["name"] == "Ads"
    assert gateway.fetch("GET", path).reason == "SYNC_NOT_FOUND"


def test_a_large_filter_survives_the_round_trip(gateway: Gateway) -> None:
    where = {"email": {"$in": [f"{number:080d}" for number in range(10_000)]}}
    made = gateway.fetch("POST", "/segments", {"name": "many", "filter": {"datatype": "contact", "where": where}}).body
    assert gateway.fetch("GET", f"/segments/{made['id']}").body["filter"]["where"] == where
    assert gateway.fetch("GET", "/segments").body["segments"] == [made]
