"""The filters of the guide to common segments, as they are written there, on records that match and others."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Service
from tests.support.waiting import wait_past_midnight

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT.parent / "docs" / "how-to" / "common-segments.md").read_text()
CASES: dict[str, Any] = json.loads((ROOT / "data" / "common_segments.json").read_text())
SEGMENTS = {
    title: json.loads(block) for title, block in re.findall(r"^### (.+)\n\n.+\n\n((?:    .+\n)+)", GUIDE, re.MULTILINE)
}
BUCKETS = "A test group of 10 %"
DATATYPES = ("contact", "order", "company")


def stored(value: Any, now: datetime) -> Any:
    """A value of a case, with the dates that it names: `@-2` is two days ago, `@day3` a day alone."""
    if isinstance(value, dict):
        return {key: stored(item, now) for key, item in value.items()}
    found = re.fullmatch(r"@(md|--|day|month)?(-?[\d.]+)", value) if isinstance(value, str) else None
    if found is None:
        return value
    form, amount = found[1], float(found[2])
    timestamp = now + timedelta(days=0 if form == "month" else amount)
    match form:
        case "md":  # of a leap year
            return f"1988-{timestamp:%m-%d}"
        case "--":
            return f"--{timestamp:%m-%d}"
        case "day":
            return f"{timestamp:%Y-%m-%d}"
        case "month":
            months = now.year * 12 + now.month - 1 + int(amount)
            return f"{months // 12}-{months % 12 + 1:02}-15"
    return timestamp


@pytest.mark.parametrize("title", SEGMENTS)
def test_a_segment_of_the_guide_has_its_members(real_service: Service, title: str) -> None:
    wait_past_midnight(0, -4, -5)  # of UTC and New York
    org, now = f"guide{next(real_service.names)}", datetime.now(UTC)
    client, case = real_service.client(org), CASES.get(title, {"contact": {}, "members": []})
    for datatype in DATATYPES:
        records = stored(case.get(datatype, {}), now)
        if records:
            real_service.insert(org, [{"id": key, **record} for key, record in records.items()], datatype)
    written = {"datatype": "contact", "where": SEGMENTS[title]}
    segment = client.create(name=title, filter=written)
    assert client.members(audienceId=segment.id) == [f"contact-{key}" for key in case["members"]]
    assert client.count(filter=written) == len(case["members"])
    if case["members"]:
        assert [found.description for found in segment.warnings if found.reason != "SMALL_PLACES"] == []


def test_the_test_group_is_a_tenth(real_service: Service) -> None:
    org = f"guide{next(real_service.names)}"
    real_service.insert(org, [{"data": {}} for _ in range(1_000)])
    count = real_service.client(org).count(filter={"datatype": "contact", "where": SEGMENTS[BUCKETS]})
    assert 50 < count < 150


def test_each_of_thirty_segments_has_records() -> None:
    assert set(SEGMENTS) == {*CASES, BUCKETS}
    assert len(SEGMENTS) >= 30


def test_each_row_of_the_table_names_a_tested_filter(real_service: Service) -> None:
    """The filters are those of the two guides. The one on several audiences runs here, with ids of its own."""
    page = (ROOT.parent / "docs" / "how-to" / "find-by-behaviour.md").read_text()
    block = r"```json ([\w-]+)\n(.*?)```"
    named = dict(re.findall(block, GUIDE, re.DOTALL))
    rows = re.findall(r"^\| .+ \| \[(.+?)\]\(", GUIDE, re.MULTILINE)
    assert len(rows) >= 14
    assert set(rows) <= {*SEGMENTS, *named, *(name for name, _ in re.findall(block, page, re.DOTALL))}
    org = f"guide{next(real_service.names)}"
    ids, client = real_service.insert(org, [{"data": {}} for _ in range(3)]), real_service.client(org)
    made = {
        name: client.create(name=name, type="static", contactIds=[contact]).id
        for name, contact in zip(("segment-a", "segment-b"), ids, strict=False)
    }
    text = re.sub(r"segment-[ab]\b", lambda name: made[name[0]], named["none-of"])
    assert client.members(filter={"datatype": "contact", "where": json.loads(text)}) == ids[2:]
