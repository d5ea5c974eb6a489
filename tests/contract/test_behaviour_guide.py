"""The filters of docs/how-to/find-by-behaviour.md, run unchanged."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.conftest import Service

PAGE = (Path(__file__).parents[2] / "docs/how-to/find-by-behaviour.md").read_text()
FILTERS = {name: json.loads(text) for name, text in re.findall(r"```json ([\w-]+)\n(.*?)```", PAGE, re.DOTALL)}
MEMBERS = {
    "spent": ["ann"],
    "spent-little": ["cid", "dan"],
    "products": ["bob"],
    "early-order": ["bob"],
    "last-order": ["bob"],
    "last-emails": ["ann"],
    "bought-after-cart": ["ann"],
    "abandoned-cart": ["bob"],
    "none-since": ["bob"],
    "win-back": ["cid"],
    "never-ordered": ["dan"],
    "company": ["ann", "cid"],
}


def _order(contact: str, days: int, total: float, sku: str, status: str = "paid") -> dict[str, Any]:
    data = {"contactId": f"contact-{contact}", "total": total, "sku": sku, "status": status}
    return {"createdate": datetime.now(UTC) - timedelta(days=days), "data": data}


def test_each_filter_finds_its_contacts(real_service: Service) -> None:
    org = f"guide{next(real_service.names)}x"
    companies = {"ann": "tech", "bob": "retail", "cid": "tech", "dan": "none"}
    signed_up = datetime.now(UTC) - timedelta(days=101)
    contacts = [
        {"id": name, "createdate": signed_up, "data": {"companyId": f"company-{company}"}}
        for name, company in companies.items()
    ]
    real_service.insert(org, contacts)
    real_service.insert(org, [{"id": name, "data": {"industry": name}} for name in ("tech", "retail")], "company")
    orders = [_order("ann", 10, 300, "a"), _order("ann", 80, 250.5, "b"), _order("cid", 400, 50, "a")]
    orders += [_order("bob", 100, 450, "a"), _order("bob", 95, 100, "b"), _order("bob", 1, 30, "c", "refunded")]
    real_service.insert(org, orders, "order")
    events = [
        {
            "createdate": datetime.now(UTC) - timedelta(hours=number),
            "data": {"contactId": f"contact-{name}", "type": "email", "opened": (number < 3) is (name == "ann")},
        }
        for name in ("ann", "bob")
        for number in range(5)
    ]
    steps = (
        ("ann", "cart", 80),
        ("ann", "purchase", 76),
        ("ann", "cart", 10),
        ("bob", "cart", 94),
        ("cid", "purchase", 1),
    )
    events += [
        {
            "createdate": datetime.now(UTC) - timedelta(days=days, minutes=1),
            "data": {"contactId": f"contact-{name}", "type": kind},
        }
        for name, kind, days in steps
    ]
    real_service.insert(org, events, "event")
    client = real_service.client(org)
    found = {}
    for name, where in FILTERS.items():
        members = client.members(filter={"datatype": "contact", "where": where})
        found[name] = sorted(member.removeprefix("contact-") for member in members)
    assert found == MEMBERS
