"""Overlaps of audiences as a client requests them, compared with their members."""

from typing import Any

from tests.support.client import Client


def contact_filter(where: dict[str, Any]) -> dict[str, Any]:
    return {"datatype": "contact", "where": where}


def overlap(client: Client, audience_id: str, other_id: str) -> Any:
    return client.call("GetOverlap", {"audienceId": audience_id, "otherAudienceId": other_id})


def check_overlap(pair: Any, first: set[str], second: set[str]) -> None:
    """Compare a pair's numbers with the members of both audiences."""
    both, either = len(first & second), len(first | second)
    assert pair.count == both
    assert pair.jaccard == (both / either if either else 0)
    assert pair.share_of_audience == (both / len(first) if first else 0)
    assert pair.share_of_other == (both / len(second) if second else 0)
