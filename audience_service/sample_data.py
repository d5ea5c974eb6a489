"""Sample contacts: realistic CRM records for demos, tests and benchmarks. Equal seeds give equal records.

Faker fills pools of names, companies and streets once, and each record draws from the pools. A million records take
less than a minute.
"""

import random
import string
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from faker import Faker

NOW = datetime(2026, 4, 15, 12, tzinfo=UTC)
"""The reference time of the samples. It is fixed, so that filters on dates have the same count on any day."""

_ID_ALPHABET = string.ascii_letters + string.digits
_POOL_SIZE = 400
_LOCATIONS = (
    ("US", "California", "San Francisco", "America/Los_Angeles", "en", "+1415555", 22),
    ("US", "New York", "New York", "America/New_York", "en", "+1212555", 15),
    ("US", "Texas", "Austin", "America/Chicago", "en", "+1512555", 9),
    ("GB", "England", "London", "Europe/London", "en", "+4420794", 12),
    ("DE", "Bavaria", "München", "Europe/Berlin", "de", "+4989555", 11),
    ("FR", "Île-de-France", "Paris", "Europe/Paris", "fr", "+3315555", 9),
    ("BR", "São Paulo", "São Paulo", "America/Sao_Paulo", "pt", "+551155", 8),
    ("IN", "Karnataka", "Bengaluru", "Asia/Kolkata", "en", "+918055", 8),
    ("JP", "Tokyo", "Tokyo", "Asia/Tokyo", "ja", "+813555", 6),
)
_STAGES = ("new", "lead", "marketing-qualified", "sales-qualified", "opportunity", "customer", "evangelist", "other")
_STAGE_WEIGHTS = (18, 30, 16, 10, 8, 14, 2, 2)
_TAGS = ("newsletter", "lead", "mql", "vip", "trial", "webinar", "partner", "churn-risk", "beta")
_TAG_SHARES = (0.45, 0.3, 0.16, 0.07, 0.1, 0.12, 0.04, 0.06, 0.03)
_SOURCES = ("website", "import", "referral", "event", "ads", "api")
_SOURCE_WEIGHTS = (40, 20, 12, 10, 13, 5)
_TITLES = ("CEO", "CTO", "Marketing Manager", "Sales Director", "Engineer", "Designer", "Analyst", "Consultant")
_STATES = ("active", "new", "archived", "deleted")
_STATE_WEIGHTS = (90, 6, 2, 2)


def sample_contacts(org: str, count: int, *, seed: int = 7, iso_text: bool = False) -> Iterator[dict[str, Any]]:
    """Contact records of the org. A larger `count` begins with the same records.

    About 4 % are archived or deleted. Dates are BSON dates, or ISO 8601 text with `iso_text`; the platform has both.
    """
    rng = random.Random(f"{org}/{seed}")  # noqa: S311 - samples, not secrets
    faker = Faker(["en_US", "de_DE", "fr_FR"], use_weighting=False)
    faker.seed_instance(seed)
    first_names = [faker.first_name() for _ in range(_POOL_SIZE)]
    last_names = [faker.last_name() for _ in range(_POOL_SIZE)]
    companies = [faker.company() for _ in range(_POOL_SIZE)]
    streets = [faker.street_address() for _ in range(_POOL_SIZE)]
    weights = [location[-1] for location in _LOCATIONS]

    def date(instant: datetime) -> datetime | str:
        return instant.strftime("%Y-%m-%dT%H:%M:%S.000Z") if iso_text else instant

    def days_ago(days: float) -> datetime:
        return (NOW - timedelta(days=days)).replace(microsecond=0)

    for number in range(count):
        key = "".join(rng.choices(_ID_ALPHABET, k=21))
        country, region, city, timezone, language, prefix, _ = rng.choices(_LOCATIONS, weights)[0]
        first, last = rng.choice(first_names), rng.choice(last_names)
        age_days = rng.expovariate(1 / 400)
        created = days_ago(age_days)
        data: dict[str, Any] = {
            "email": f"{first}.{last}.{number}@example.com".lower().replace(" ", ""),
            "phone": f"{prefix}{rng.randrange(10_000):04d}",
            "firstName": first,
            "lastName": last,
            "company": rng.choice(companies),
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
            "tags": [tag for tag, share in zip(_TAGS, _TAG_SHARES, strict=True) if rng.random() < share],
            "source": rng.choices(_SOURCES, _SOURCE_WEIGHTS)[0],
            "score": min(100, int(rng.gammavariate(2, 18))),
            "leadStage": rng.choices(_STAGES, _STAGE_WEIGHTS)[0],
            "createdAt": date(created),
        }
        if rng.random() < 0.8:
            data["birthday"] = f"{rng.randrange(1945, 2006)}-{rng.randrange(1, 13):02d}-{rng.randrange(1, 29):02d}"
        if rng.random() < 0.7:
            opened_days = min(age_days, rng.expovariate(1 / 60))
            data["lastEmailOpenedAt"] = date(days_ago(opened_days))
            if rng.random() < 0.4:
                data["lastEmailClickedAt"] = date(days_ago(opened_days))
        yield {
            "pk": f"contact-{key}",
            "sk": f"{org}/contact/{key}",
            "name": f"{first} {last}",
            "datatype": "contact",
            "version": 0,
            "state": rng.choices(_STATES, _STATE_WEIGHTS)[0],
            "createdate": date(created),
            "modifydate": date(created),
            "author": "samples",
            "data": data,
        }
