"""Insights as a client requests them."""

from typing import Any

from hypothesis import HealthCheck, Phase

from tests.support.client import Client
from tests.support.examples import examples

a_few = examples(5, *HealthCheck, phases=[Phase.explicit, Phase.reuse, Phase.generate])
"""Examples of 5,000 contacts each, which would be long in the shrinking."""


def segment(client: Client, where: dict[str, Any], **fields: Any) -> str:
    """The id of a new segment."""
    made = client.create(name=str(where), filter={"datatype": "contact", "where": where}, **fields)
    return str(made.id)


def insights(client: Client, audience_id: str, *dimensions: str, **fields: Any) -> Any:
    """The answer."""
    return client.call("GetInsights", {"audienceId": audience_id, "dimensions": dimensions, **fields}, timeout=60)


def counts_by_value(dimension: Any) -> dict[str, int]:
    """Counts by value."""
    return {bucket.value: bucket.count for bucket in dimension.buckets}
