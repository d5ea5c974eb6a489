"""Values of every BSON type that a record may contain, among them those that no client writes by intention."""

from datetime import UTC, datetime
from typing import Any

from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS

ODD_VALUES: dict[str, Any] = {
    "code": Code("return 1"),
    "code_with_scope": Code("return x", {"x": 1}),
    "regex": Regex("^a", "i"),
    "min_key": MinKey(),
    "max_key": MaxKey(),
    "dbref": DBRef("contact", "contact-1"),
    "timestamp": Timestamp(1_700_000_000, 1),
    "decimal": Decimal128("1.5"),
    "decimal_nan": Decimal128("NaN"),
    "decimal_infinity": Decimal128("-Infinity"),
    "nan": float("nan"),
    "infinity": float("inf"),
    "object_id": ObjectId("65a000000000000000000000"),
    "binary": Binary(b"\x00\xff", 0),
    "uuid": Binary(b"\x00" * 16, 4),
    "long": Int64(2**63 - 1),
    "date_before_year_one": DatetimeMS(-(2**62)),
    "date_after_year_9999": DatetimeMS(2**62),
    "date": datetime(2026, 1, 1, tzinfo=UTC),
    "null": None,
    "nul_in_text": "a\x00b",
    "empty_key": {"": 1},
    "key_with_dot": {"a.b": 1},
    "key_with_dollar": {"$a": 1},
    "nested": [[Code("x"), {"deep": MinKey()}], Regex("b")],
}
"""The driver reads the deprecated Undefined, Symbol and DBPointer as null, text and DBRef, and cannot write them."""
