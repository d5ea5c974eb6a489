"""Lookalikes: made, refreshed and opened, on a real engine; the embedded store refuses them."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest

from tests.client import Client, Refusal
from tests.conftest import Service

Refused = Callable[..., Refusal]


def people(count: int, keen: int, **also: Any) -> list[dict[str, Any]]:
    """Contacts of whom every tenth is `keen`-th; those with score 90 live in Lima and have the tag run, as some do."""
    return [
        {
            "id": f"{number:05}",
            "data": {
                "score": 90 if number % 10 == 0 else 10,
                "city": "Lima" if number % 10 == 0 or number % 7 == 0 else "Oslo",
                "tags": ["run", "eat"] if number % 10 == 0 or number % 3 == 0 else ["eat"],
                "country": "PE" if number % 2 else "NO",
                "language": "es",
                **also,
            },
        }
        for number in range(count)
    ]


def test_smoke(real_service: Service) -> None:
    client = real_service.client("smoke")
    real_service.insert("smoke", people(3000, 10))
    seed = client.create(name="s", filter={"datatype": "contact", "where": {"score": 90}}).id
    made = client.custom(name="like", type="lookalike", lookalike={"sourceAudienceId": seed, "count": 50, "fields": ["city", "tags"]})
    print(made)
    print(client.call("GetLookalikeModel", {"id": made.id}))
    assert client.count(audienceId=made.id) == 50
    again = client.call("RefreshCustomAudience", {"id": made.id})
    print(again)
