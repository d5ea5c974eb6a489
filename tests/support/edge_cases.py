"""Contacts as no one should store them: every field in whatever shape has been met."""

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bson import Decimal128, Int64
from bson.datetime_ms import DatetimeMS

_TEXTS = (
    "US",
    "US",
    "US",
    " US ",
    "us",
    "DE",
    "DE",
    "Österreich",
    "日本",
    "(missing)",
    "",
    " \u00a0",
    "0049",
    "49",
    "x" * 150,
)
_SHAPES = (
    "{:%Y-%m-%dT%H:%M:%S}.000Z",
    "{:%Y-%m-%dT%H:%M:%S}Z",
    "{:%Y-%m-%d}",
    "{:%Y-%m-%dT%H:%M:%S}+00:00",
    "{:%d.%m.%Y}",
)
_INVALID_DATES = ("soon", "0000-00-00", "2026-13-01", "2026-00-10", "2026-01-32", "9999-99-99", "3")
_OUT_OF_RANGE = (DatetimeMS(253_402_300_800_000), DatetimeMS(-62_135_596_800_001), DatetimeMS(1_700_000_000_000_000))
"""Dates that Python lacks, and that no month can be spelt of."""


@dataclass(frozen=True)
class Shape:
    """How awkward contacts are: how often a field is there, how often its text is text, how many tags there are."""

    present_share: float = 0.85
    plain_share: float = 0.8
    rare_tag_count: int = 900
    deleted_share: float = 0.25


def edge_case_contacts(count: int, now: datetime, seed: int, shape: Shape = Shape()) -> list[dict[str, Any]]:
    """Payloads and envelope fields, the same ones for the same seed and shape."""
    rng = random.Random(seed)

    def text() -> Any:
        if rng.random() < shape.plain_share:
            return rng.choice(_TEXTS)
        return rng.choice((None, 49, 49.0, Int64(49), 1.5, True, [], ["", None, "FR"], ["DE", "FR"], {"a": 1}, [["x"]]))

    def date(spread_days: int) -> Any:
        kind = rng.random()
        # On the very edge of a band now and then.
        days = rng.choice((0, 7, 30, 90, 365)) if kind < 0.1 else rng.uniform(-spread_days / 20, spread_days)
        value = now - timedelta(days=days, milliseconds=rng.choice((0, 0, 1, -1, 500)))
        if kind < 0.45:
            return value
        if kind < 0.85:
            return rng.choice(_SHAPES).format(value)
        return rng.choice(
            (
                None,
                "",
                0,
                1_700_000_000_000,
                [value],
                [None, f"{value:%Y-%m-%d}"],
                {},
                {"d": 1},
                *_INVALID_DATES,
                *_OUT_OF_RANGE,
            )
        )

    def postal_address() -> dict[str, Any]:
        return {"country": text(), "city": text(), "street1": "1 Main St"}

    def address() -> Any:
        return rng.choice(
            (
                None,
                "1 Main St",
                {},
                [],
                postal_address(),
                postal_address(),
                [postal_address()],
                [{"zip": "1"}, postal_address(), postal_address()],
                [None, postal_address()],
            )
        )

    def number() -> Any:
        value = rng.randrange(-5, 120)
        return rng.choice(
            (value, value, float(value), value + 0.5, str(value), f" {value} ", f"{value}.25", Decimal128(str(value)),
             Int64(value), "many", "", None, float("nan"), float("inf"), True, [value, 3], {}, -0.0, "-0",
             Decimal128("1E400"), Decimal128("1E-400"), Decimal128("NaN"), Int64(2**62), [float("nan"), value])
        )  # fmt: skip

    def tags() -> Any:
        known = ("vip", "vip ", "new", "ünï", "", None, 3, "3", True, "true", {"t": 1}, float("nan"))
        some = [rng.choice((*known, f"rare{rng.randrange(shape.rare_tag_count)}")) for _ in range(rng.randrange(5))]
        return rng.choice((some, some, some, "vip", None, "a,b", {}))

    generators: dict[str, Any] = {
        "country": text, "region": text, "city": text, "address": address, "language": text, "sex": text,
        "gender": text, "jobTitle": text, "leadStage": text, "source": text,
        "company": lambda: rng.choice((text(), {"name": text()}, f"company {rng.randrange(3_000)}")),
        "birthday": lambda: date(36_000), "lastEmailOpenedAt": lambda: date(400),
        "lastEmailClickedAt": lambda: date(400), "createdAt": lambda: date(400),
        "score": number, "leadScore": number, "tags": tags,
        "plan": lambda: rng.choice((text(), number(), date(400), tags())),
        "spend": lambda: round(rng.gauss(50, 20), 2),
    }  # fmt: skip
    contacts: list[dict[str, Any]] = []
    for _ in range(count):
        data = {name: make() for name, make in generators.items() if rng.random() < shape.present_share}
        envelope = {"createdate": date(400)} if rng.random() < 0.9 else {}
        state = "deleted" if rng.random() < shape.deleted_share else "active"
        contacts.append({"data": data, "state": state, **envelope})
    return contacts
