"""Records in the platform's envelope."""

from collections.abc import Mapping
from typing import Any

Record = Mapping[str, Any]
"""A record: pk, sk, state, data and so on. Its datetimes have a timezone."""
