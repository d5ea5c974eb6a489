"""Versions of segments as a client makes and lists them."""

from typing import Any

from tests.support.client import Client


def versions(client: Client, segment_id: str, size: int = 0) -> list[Any]:
    """All versions, page by page; the total must agree."""
    listed: list[Any] = []
    token = ""
    while True:
        request = {"id": segment_id, "pageSize": size, "pageToken": token}
        page = client.call("ListSegmentVersions", request)
        listed += page.versions
        token = page.next_page_token
        if not token:
            assert page.total_size == len(listed)
            return listed


def update(client: Client, segment_id: str, mask: str, **fields: Any) -> Any:
    """An update of the masked fields."""
    return client.call("UpdateSegment", {"segment": {"id": segment_id, **fields}, "updateMask": mask})
