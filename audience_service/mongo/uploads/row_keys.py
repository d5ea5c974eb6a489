"""The keys of an upload's rows: "<org>/<kind>/<rows of the upload>/<line in 10 digits>"."""

from audience_service.domain.filters.filter import Document


def row_key(org: str, kind: str, list_version_id: str, line: int) -> str:
    """Return the key of a row, which is its `_id` and its `sk`."""
    return f"{org}/{kind}/{list_version_id}/{line:010}"


def after_line(org: str, kind: str, list_version_id: str, line: int) -> Document:
    """Return the match of an upload's rows after a line. ":" is the character after "9"."""
    first = row_key(org, kind, list_version_id, 0)
    return {"_id": {"$gt": row_key(org, kind, list_version_id, line), "$lt": f"{first[:-10]}:"}}


def of_audience(org: str, kind: str, audience_id: str) -> Document:
    """Return the match of the rows of all uploads of an audience."""
    prefix = f"{org}/{kind}/{audience_id}"
    return {"_id": {"$gte": f"{prefix}.", "$lt": f"{prefix}/"}}
