"""The dashboard and the alerts: each metric that they name exists, and each alert has an entry in the runbook."""

import json
import re
from pathlib import Path

import pytest
import ruamel.yaml

from audience_service.observability.metrics import METRICS
from tests.test_documentation import anchors

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/monitoring"
ALERTS = ruamel.yaml.YAML(typ="safe").load(FOLDER / "alerts.yaml")["groups"][0]["rules"]
PANELS = json.loads((FOLDER / "dashboard.json").read_text())["panels"]
QUERIES = [alert["expr"] for alert in ALERTS] + [target["expr"] for panel in PANELS for target in panel["targets"]]
SUFFIXES = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""]}
FAMILIES = [(family, metric) for metric in METRICS for family in metric.describe()]
NAMES = {family.name + suffix: metric for family, metric in FAMILIES for suffix in SUFFIXES[family.type]}


@pytest.mark.parametrize("query", QUERIES)
def test_every_metric_and_label_of_a_query_exists(query: str) -> None:
    found = re.findall(r"\b((?:grpc|audience)_\w+)(?:\{(.*?)\})?(?=[\[)\s]|$)", query)
    used = [(name, labels) for name, labels in found if name not in {"grpc_method", "grpc_code", "grpc_type"}]
    assert used or query.startswith("up{")
    for name, labels in used:
        assert name in NAMES, name
        assert set(re.findall(r"(\w+)(?:=|!=|=~)\"", labels)) <= set(NAMES[name]._labelnames), name


def test_every_metric_is_on_the_dashboard() -> None:
    text = " ".join(QUERIES)
    assert [family.name for family, _ in FAMILIES if family.name not in text] == []


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_every_alert_has_an_entry_in_the_runbook(alert: dict[str, dict[str, str]]) -> None:
    page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    assert anchor == str(alert["alert"]).lower()
    assert anchor in anchors(ROOT / page)
    assert alert["labels"]["severity"] in {"page", "ticket"}
