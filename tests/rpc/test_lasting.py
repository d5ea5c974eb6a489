"""Calls that may take minutes, and come without a deadline."""

import re
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

from audience_service.mongo.store import embedded_store
from audience_service.settings import Settings
from tests.client import Refusal
from tests.conftest import run_service

serving = contextmanager(run_service)


def test_making_a_custom_audience_has_longer_than_other_calls(refused: Callable[..., Refusal]) -> None:
    with serving("embedded", embedded_store([], ("contact",)), unary_timeout_seconds=1e-9) as service:
        client = service.client("patient")
        made = {"customAudience": {"name": "list", "type": "file_upload"}}
        made_id = client.call("CreateCustomAudience", made, timeout=None).id
        assert client.call("RefreshCustomAudience", {"id": made_id}, timeout=None).id == made_id
        late = refused(lambda: client.call("GetCustomAudience", {"id": made_id}, timeout=None))
        assert late.info.reason == "OUT_OF_TIME"


def test_it_is_held_to_a_default_of_its_own(refused: Callable[..., Refusal]) -> None:
    with serving("embedded", embedded_store([], ("contact",)), lasting_timeout_seconds=1e-9) as service:
        client = service.client("hasty")
        made = {"customAudience": {"name": "list", "type": "file_upload"}}
        assert refused(lambda: client.call("CreateCustomAudience", made, timeout=None)).info.reason == "OUT_OF_TIME"


def test_the_http_door_waits_longer_than_the_defaults() -> None:
    routes = re.findall(r"timeout: (\d+)s", (Path(__file__).parents[2] / "deploy" / "envoy.yaml").read_text())
    defaults = Settings.model_fields
    assert int(routes[0]) > defaults["lasting_timeout_seconds"].default
    assert int(routes[1]) > defaults["unary_timeout_seconds"].default
