"""The time of day."""

from datetime import UTC, datetime


def now() -> datetime:
    """The time in UTC, to the millisecond, which is what a BSON date holds."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
