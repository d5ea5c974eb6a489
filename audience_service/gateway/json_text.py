"""JSON text: the value of a text that a program can only have meant in one way."""

import json
import math
from typing import Any, NoReturn

_MAX_DIGITS = 308
"""The most digits of an integer that a double can hold."""


def parse_json(text: bytes) -> Any:
    """The value of a JSON text in UTF-8.

    Raises ValueError, which names the problem, also for a key that an object has twice, for NaN and Infinity, and for
    a number or a depth that no value can have.
    """
    try:
        return json.loads(
            text.decode(),
            object_pairs_hook=_unique_keys,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_bounded,
        )
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def encode_json(value: Any) -> bytes:
    """The JSON text of a value, in UTF-8 and without spaces."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"has the key {name[:100]!r} twice in an object")
            seen.add(name)
    return values


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"has {name}, which is not JSON; send null or a string")


def _bounded(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"has a number of {len(text)} digits, which no number can be")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"has {text[:40]}, which no number can be")
    return number
