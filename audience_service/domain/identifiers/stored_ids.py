"""Ids that a record stores for a platform: of a device, and of a person. They are never derived from other fields."""

import re
from typing import Any

from audience_service.domain.identifiers.region_context import UNKNOWN_REGION, RegionContext
from audience_service.domain.identifiers.text import read_text

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_NOBODY = "00000000-0000-0000-0000-000000000000"
"""What a device returns instead of its advertising id if its owner does not allow tracking."""
_RAW_UID2 = re.compile(r"[0-9A-Za-z+/]{43}[0-9A-Za-z+/=]", re.ASCII)
_MAX_EXTERNAL_ID_LENGTH = 100


def advertising_id(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """The advertising id of a phone (IDFA or AAID) in lower case, with its hyphens."""
    text = read_text(value).lower()
    return text if _UUID.fullmatch(text) and text != _NOBODY else None


def unchanged_advertising_id(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """The same id in the case in which it is stored."""
    text = read_text(value)
    return text if advertising_id(text) else None


def uid2(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """A raw UID2 as it is stored: 44 characters of Base64, in which case counts."""
    text = read_text(value)
    return text if _RAW_UID2.fullmatch(text) else None


def lowercase_id(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """The advertiser's own id of a person in lower case: printable text of at most 100 characters."""
    text = read_text(value).lower()
    return text if 0 < len(text) <= _MAX_EXTERNAL_ID_LENGTH and text.isprintable() else None
