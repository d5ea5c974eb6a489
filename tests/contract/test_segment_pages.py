"""Pages of segments: every one once and in order, narrowed, bound to their request, and fit for a message."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Service
from tests.support.client import Client, Refusal

VIP = {"datatype": "contact", "where": {"tags": "vip"}}
Refused = Callable[..., Refusal]


@pytest.mark.parametrize("order", ["name", "name desc", "create_time", "create_time desc", "update_time", ""])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
@pytest.mark.slow
def test_pages_contain_every_segment_once_and_in_order(client: Client, order: str, size: int) -> None:
    names = ["delta", "Alpha", "charlie", "Bravo", "echo", "alpha", "foxtrot"]
    made = [client.create(name=name, filter=VIP) for name in names]
    listed, token = [], ""
    while True:
        page = client.call("ListSegments", {"pageSize": size, "orderBy": order, "pageToken": token})
        assert page.total_size == len(names)
        assert len(page.segments) <= size
        listed += page.segments
        token = page.next_page_token
        if not token:
            break
    assert sorted(s.id for s in listed) == sorted(s.id for s in made)
    keys: list[Any] = [s.name.lower() if "name" in order else s.create_time.ToNanoseconds() for s in listed]
    descending = order.endswith("desc") or not order
    pairs = itertools.pairwise(keys)
    assert all(a >= b if descending else a <= b for a, b in pairs)


def test_a_list_can_be_narrowed(client: Client) -> None:
    client.create(name="Summer VIPs", filter=VIP)
    client.create(name="summer (frozen)", type="static", filter=VIP)
    client.create(name="Winter", filter=VIP)

    def names(**query: str) -> list[str]:
        return sorted(s.name for s in client.call("ListSegments", query).segments)

    assert names(name="SUMMER") == ["Summer VIPs", "summer (frozen)"]
    assert names(name="(frozen)") == ["summer (frozen)"]
    assert names(type="static") == ["summer (frozen)"]
    assert names(type="dynamic") == ["Summer VIPs", "Winter"]
    assert names(state="active", name="winter") == ["Winter"]
    assert names(state="archived") == []


def test_a_page_token_is_bound_to_its_request(client: Client, service: Service, refused: Refused) -> None:
    for name in ("a", "b"):
        client.create(name=name, filter=VIP)
    token = client.call("ListSegments", {"pageSize": 1}).next_page_token
    other = service.client("yet-another-org")
    for wrong in (
        lambda: client.call("ListSegments", {"pageToken": token, "type": "static"}),
        lambda: client.call("ListSegments", {"pageToken": token[:-2]}),
        lambda: client.call("ListSegments", {"pageToken": "x"}),
        lambda: other.call("ListSegments", {"pageToken": token}),
    ):
        refusal = refused(wrong)
        assert (refusal.info.reason, refusal.fields) == ("INVALID_PAGE_TOKEN", ["page_token"])


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"pageSize": -1}, "page_size"),
        ({"orderBy": "size"}, "order_by"),
        ({"orderBy": "name sideways"}, "order_by"),
        ({"type": "frozen"}, "type"),
        ({"name": "x" * 201}, "name"),
    ],
)
def test_a_bad_list_request_is_refused_with_its_field_path(
    client: Client, refused: Refused, request_: dict[str, Any], field: str
) -> None:
    assert refused(lambda: client.call("ListSegments", request_)).fields == [field]


@pytest.mark.slow
def test_a_page_of_large_segments_fits_a_message(client: Client) -> None:
    emails = [f"somebody.{number}@example.com" for number in range(8_000)]
    for number in range(12):
        client.create(name=str(number), filter={"datatype": "contact", "where": {"email": {"$in": emails}}})
    listed, token = 0, ""
    while True:
        page = client.call("ListSegments", {"pageToken": token})
        assert page.ByteSize() < 4 * 1024 * 1024
        assert page.total_size == 12
        listed += len(page.segments)
        token = page.next_page_token
        if not token:
            break
    assert listed == 12


def test_a_search_name_with_nul_is_refused(client: Client, refused: Refused) -> None:
    assert refused(lambda: client.call("ListSegments", {"name": "a\0b"})).fields == ["name"]
