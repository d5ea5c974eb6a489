"""Sample records of a shop: contacts, their companies, orders, events and consent, for demos, tests and benchmarks.

Equal arguments give equal records. Faker fills pools of names, companies and streets once, and each record draws from
the pools. A million contacts take about a minute.

The records have correlations to find: contacts with a high score are often VIPs, VIPs open more emails and buy more,
and people in some cities open more than others.
"""

import random
import string
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from faker import Faker

NOW = datetime(2026, 4, 15, 12, tzinfo=UTC)
"""The default time of the samples. It is fixed, so that filters on dates have the same count on any day."""

_ID_ALPHABET = string.ascii_letters + string.digits
_POOL_SIZE = 400
_LOCATIONS = (
    ("US", "California", "San Francisco", "America/Los_Angeles", "en", "+1415555", 22),
    ("US", "New York", "New York", "America/New_York", "en", "+1212555", 15),
    ("US", "Texas", "Austin", "America/Chicago", "en", "+1512555", 9),
    ("GB", "England", "London", "Europe/London", "en", "+44207946", 12),
    ("DE", "Bavaria", "München", "Europe/Berlin", "de", "+4989555", 11),
    ("FR", "Île-de-France", "Paris", "Europe/Paris", "fr", "+3315555", 9),
    ("BR", "São Paulo", "São Paulo", "America/Sao_Paulo", "pt", "+55115555", 8),
    ("IN", "Karnataka", "Bengaluru", "Asia/Kolkata", "en", "+91804555", 8),
    ("JP", "Tokyo", "Tokyo", "Asia/Tokyo", "ja", "+8135555", 6),
)
_OPENING_SHARES = {"München": 0.9, "London": 0.85, "Tokyo": 0.45, "São Paulo": 0.5}
_OPENING_SHARE, _VIP_OPENING_SHARE = 0.7, 0.95
_STAGES = ("new", "lead", "marketing-qualified", "sales-qualified", "opportunity", "customer", "evangelist", "other")
_STAGE_WEIGHTS = (18, 30, 16, 10, 8, 14, 2, 2)
_TAGS = ("newsletter", "lead", "mql", "vip", "trial", "webinar", "partner", "churn-risk", "beta")
_TAG_SHARES = (0.45, 0.3, 0.16, 0.03, 0.1, 0.12, 0.04, 0.06, 0.03)
_HIGH_SCORE, _HIGH_SCORE_VIP_SHARE = 60, 0.3
_SOURCES = ("website", "import", "referral", "event", "ads", "api")
_SOURCE_WEIGHTS = (40, 20, 12, 10, 13, 5)
_TITLES = ("CEO", "CTO", "Marketing Manager", "Sales Director", "Engineer", "Designer", "Analyst", "Consultant")
_STATES = ("active", "new", "archived", "deleted")
_STATE_WEIGHTS = (90, 6, 2, 2)
_INDUSTRIES = ("tech", "retail", "software", "finance", "health", "travel")
_PRODUCTS = (("mug", 12.0), ("shirt", 25.0), ("bag", 60.0), ("shoes", 95.0), ("jacket", 140.0))
_CONSENTS = ("active", "pending", "unsubscribed", "bounced", "complained")
_CONSENT_WEIGHTS = (80, 6, 9, 4, 1)


def sample_contacts(
    org: str, count: int, *, seed: int = 7, iso_text: bool = False, at: datetime = NOW
) -> Iterator[dict[str, Any]]:
    """Contact records of the org, as of a time. A larger `count` begins with the same records.

    About 4 % are archived or deleted. Dates are BSON dates, or ISO 8601 text with `iso_text`; the platform has both.
    """
    rng = random.Random(f"{org}/{seed}")  # noqa: S311 - samples, not secrets
    first_names, last_names, companies, streets = _pools(seed)
    weights = [location[-1] for location in _LOCATIONS]
    date = _write_iso_text if iso_text else _keep_date

    def days_ago(days: float) -> datetime:
        return (at - timedelta(days=days)).replace(microsecond=0)

    for number in range(count):
        key = "".join(rng.choices(_ID_ALPHABET, k=21))
        country, region, city, timezone, language, prefix, _ = rng.choices(_LOCATIONS, weights)[0]
        first, last = rng.choice(first_names), rng.choice(last_names)
        age_days = rng.expovariate(1 / 400)
        created = days_ago(age_days)
        company = rng.randrange(_POOL_SIZE)
        data: dict[str, Any] = {
            "email": f"{first}.{last}.{number}@example.com".lower().replace(" ", ""),
            "phone": f"{prefix}{rng.randrange(10_000):04d}",
            "firstName": first,
            "lastName": last,
            "company": companies[company],
            "companyId": f"company-{org}{company:03d}",
            "jobTitle": rng.choice(_TITLES),
            "country": country,
            "address": {
                "street1": rng.choice(streets),
                "city": city,
                "region": region,
                "zip": f"{rng.randrange(100_000):05d}",
                "country": country,
            },
            "language": language,
            "timezone": timezone,
            "source": rng.choices(_SOURCES, _SOURCE_WEIGHTS)[0],
            "score": min(100, int(rng.gammavariate(2, 18))),
            "leadStage": rng.choices(_STAGES, _STAGE_WEIGHTS)[0],
            "createdAt": date(created),
        }
        data["tags"] = [tag for tag, share in _tag_shares(data["score"]) if rng.random() < share]
        is_vip = "vip" in data["tags"]
        if rng.random() < 0.8:
            data["birthday"] = f"{rng.randrange(1945, 2006)}-{rng.randrange(1, 13):02d}-{rng.randrange(1, 29):02d}"
        opening_share = _VIP_OPENING_SHARE if is_vip else _OPENING_SHARES.get(city, _OPENING_SHARE)
        if rng.random() < opening_share:
            opened_days = min(age_days, rng.expovariate(1 / (20 if is_vip else 60)))
            data["lastEmailOpenedAt"] = date(days_ago(opened_days))
            if rng.random() < 0.4:
                data["lastEmailClickedAt"] = date(days_ago(opened_days))
        contact = _record(org, "contact", key, created, data, date)
        yield {**contact, "name": f"{first} {last}", "state": rng.choices(_STATES, _STATE_WEIGHTS)[0]}


def sample_companies(
    org: str, *, seed: int = 7, iso_text: bool = False, at: datetime = NOW
) -> Iterator[dict[str, Any]]:
    """The company records to which the contacts' `companyId` refers."""
    rng = random.Random(f"{org}/{seed}/companies")  # noqa: S311
    date = _write_iso_text if iso_text else _keep_date
    for number, name in enumerate(_pools(seed)[2]):
        data = {"industry": rng.choice(_INDUSTRIES), "employees": int(rng.lognormvariate(4, 1.5)) + 1}
        created = (at - timedelta(days=rng.expovariate(1 / 800))).replace(microsecond=0)
        yield {**_record(org, "company", f"{org}{number:03d}", created, data, date), "name": name}


def sample_activity(
    contact: Mapping[str, Any], *, iso_text: bool = False, at: datetime = NOW
) -> Iterator[dict[str, Any]]:
    """The orders and events of a contact, and the record of its consent to emails if it has one."""
    rng = random.Random(contact["sk"])  # noqa: S311
    org, _, key = contact["sk"].split("/")
    data, date = contact["data"], _write_iso_text if iso_text else _keep_date
    is_vip = "vip" in data["tags"]

    def record(datatype: str, number: int, days: float, fields: dict[str, Any]) -> dict[str, Any]:
        created = (at - timedelta(days=days)).replace(microsecond=0)
        return _record(org, datatype, f"{key}{number}", created, fields, date)

    order_count = rng.randrange(2, 7) if is_vip else rng.choices((0, 1, 2), (60, 30, 10))[0]
    for number in range(order_count):
        sku, price = rng.choice(_PRODUCTS[2:] if is_vip else _PRODUCTS)
        order = {
            "contactId": contact["pk"],
            "sku": sku,
            "total": price * rng.randrange(1, 4),
            "status": rng.choices(("paid", "refunded"), (95, 5))[0],
        }
        yield record("order", number, rng.expovariate(1 / (60 if is_vip else 200)), order)
    for number in range(rng.randrange(1, 5)):
        event = {"contactId": contact["pk"], "type": "email", "opened": rng.random() < (0.8 if is_vip else 0.35)}
        yield record("event", number, rng.expovariate(1 / 30), event)
    if rng.random() < 0.3:
        visit = {"contactId": contact["pk"], "type": "page_view", "page": rng.choice(("/pricing", "/cart", "/blog"))}
        yield record("event", 9, rng.expovariate(1 / 10), visit)
    if "newsletter" in data["tags"]:
        consent = {"email": data["email"], "channel": "email", "status": rng.choices(_CONSENTS, _CONSENT_WEIGHTS)[0]}
        yield record("subscriber", 0, rng.expovariate(1 / 300), consent)
    if rng.random() < 0.15:
        days = rng.expovariate(1 / 20)
        yield record("event", 5, days, {"contactId": contact["pk"], "type": "cart"})
        if rng.random() < 0.4:
            yield record("event", 6, days * rng.random(), {"contactId": contact["pk"], "type": "purchase"})


def _pools(seed: int) -> tuple[list[str], list[str], list[str], list[str]]:
    """First names, last names, companies and streets to draw from."""
    faker = Faker(["en_US", "de_DE", "fr_FR"], use_weighting=False)
    faker.seed_instance(seed)
    pools = [
        [make() for _ in range(_POOL_SIZE)]
        for make in (faker.first_name, faker.last_name, faker.company, faker.street_address)
    ]
    return pools[0], pools[1], pools[2], pools[3]


def _tag_shares(score: int) -> Iterator[tuple[str, float]]:
    """Each tag with the share of the contacts with this score that have it."""
    for tag, share in zip(_TAGS, _TAG_SHARES, strict=True):
        yield tag, _HIGH_SCORE_VIP_SHARE if tag == "vip" and score > _HIGH_SCORE else share


def _record(
    org: str, datatype: str, key: str, created: datetime, data: dict[str, Any], date: Callable[[datetime], Any]
) -> dict[str, Any]:
    return {
        "pk": f"{datatype}-{key}",
        "sk": f"{org}/{datatype}/{key}",
        "datatype": datatype,
        "version": 0,
        "state": "active",
        "createdate": date(created),
        "modifydate": date(created),
        "author": "samples",
        "data": data,
    }


def _keep_date(instant: datetime) -> datetime:
    return instant


def _write_iso_text(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%S.000Z")
