"""The time of day, to the millisecond, which is what a BSON date holds."""

from datetime import UTC, datetime, timedelta

MILLISECOND = timedelta(milliseconds=1)
"""What the database tells moments apart by."""


def now() -> datetime:
    """The time in UTC."""
    return truncate_to_milliseconds(datetime.now(UTC))


def truncate_to_milliseconds(instant: datetime) -> datetime:
    """The moment as the database tells it from others."""
    return instant.replace(microsecond=instant.microsecond // 1000 * 1000)
