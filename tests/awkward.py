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
_NO_DATES = ("soon", "0000-00-00", "2026-13-01", "2026-00-10", "2026-01-32", "9999-99-99", "3")
_BEYOND = (DatetimeMS(253_402_300_800_000), DatetimeMS(-62_135_596_800_001), DatetimeMS(1_700_000_000_000_000))
"""Dates that Python lacks, and that no month can be spelt of."""


@dataclass(frozen=True)
class Shape:
    """How awkward contacts are: how often a field is there, how often its text is text, how many tags there are."""

    present: float = 0.85
    plain: float = 0.8
    rare: int = 900
    gone: float = 0.25


def awkward_contacts(count: int, now: datetime, seed: int, shape: Shape = Shape()) -> list[dict[str, Any]]:
    """Payloads and envelope fields, the same ones for the same seed and shape."""
    chance = random.Random(seed)

    def text() -> Any:
        if chance.random() < shape.plain:
            return chance.choice(_TEXTS)
        return chance.choice(
            (None, 49, 49.0, Int64(49), 1.5, True, [], ["", None, "FR"], ["DE", "FR"], {"a": 1}, [["x"]])
        )

    def date(spread_days: int) -> Any:
        kind = chance.random()
        # On the very edge of a band now and then.
        days = chance.choice((0, 7, 30, 90, 365)) if kind < 0.1 else chance.uniform(-spread_days / 20, spread_days)
        moment = now - timedelta(days=days, milliseconds=chance.choice((0, 0, 1, -1, 500)))
        if kind < 0.45:
            return moment
        if kind < 0.85:
            return chance.choice(_SHAPES).format(moment)
        return chance.choice(
            (None, "", 0, 1_700_000_000_000, [moment], [None, f"{moment:%Y-%m-%d}"], {}, {"d": 1}, *_NO_DATES, *_BEYOND)
        )

    def place() -> dict[str, Any]:
        return {"country": text(), "city": text(), "street1": "1 Main St"}

    def address() -> Any:
        return chance.choice(
            (None, "1 Main St", {}, [], place(), place(), [place()], [{"zip": "1"}, place(), place()], [None, place()])
        )

    def number() -> Any:
        value = chance.randrange(-5, 120)
        return chance.choice(
            (value, value, float(value), value + 0.5, str(value), f" {value} ", f"{value}.25", Decimal128(str(value)),
             Int64(value), "many", "", None, float("nan"), float("inf"), True, [value, 3], {}, -0.0, "-0",
             Decimal128("1E400"), Decimal128("1E-400"), Decimal128("NaN"), Int64(2**62), [float("nan"), value])
        )  # fmt: skip

    def tags() -> Any:
        known = ("vip", "vip ", "new", "ünï", "", None, 3, "3", True, "true", {"t": 1}, float("nan"))
        some = [chance.choice((*known, f"rare{chance.randrange(shape.rare)}")) for _ in range(chance.randrange(5))]
        return chance.choice((some, some, some, "vip", None, "a,b", {}))

    makers: dict[str, Any] = {
        "country": text, "region": text, "city": text, "address": address, "language": text, "sex": text,
        "gender": text, "jobTitle": text, "leadStage": text, "source": text,
        "company": lambda: chance.choice((text(), {"name": text()}, f"company {chance.randrange(3_000)}")),
        "birthday": lambda: date(36_000), "lastEmailOpenedAt": lambda: date(400),
        "lastEmailClickedAt": lambda: date(400), "createdAt": lambda: date(400),
        "score": number, "leadScore": number, "tags": tags,
        "plan": lambda: chance.choice((text(), number(), date(400), tags())),
        "spend": lambda: round(chance.gauss(50, 20), 2),
    }  # fmt: skip
    contacts: list[dict[str, Any]] = []
    for _ in range(count):
        data = {name: make() for name, make in makers.items() if chance.random() < shape.present}
        envelope = {"createdate": date(400)} if chance.random() < 0.9 else {}
        state = "deleted" if chance.random() < shape.gone else "active"
        contacts.append({"data": data, "state": state, **envelope})
    return contacts
