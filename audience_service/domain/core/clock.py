"""The current time, to the millisecond: the precision of a BSON date."""

from datetime import UTC, datetime, timedelta

MILLISECOND = timedelta(milliseconds=1)
"""The resolution of the database's dates."""


def now() -> datetime:
    """The current time in UTC, in whole milliseconds."""
    return truncate_to_milliseconds(datetime.now(UTC))


def truncate_to_milliseconds(instant: datetime) -> datetime:
    """The instant as the database stores it: in whole milliseconds, rounded down."""
    return instant.replace(microsecond=instant.microsecond // 1000 * 1000)
