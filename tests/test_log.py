"""Log lines."""

import pytest
import structlog
from pymongo.errors import DuplicateKeyError

from audience_service.cli.log import COLUMNS, configure_logs

SECRET = "ann@example.com"


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_a_traceback_has_no_message_that_may_quote_a_value(log_format: str, capfd: pytest.CaptureFixture[str]) -> None:
    """The database quotes the keys of a duplicate, and Python the missing key of a dict."""
    configure_logs(log_format)
    try:
        try:
            raise DuplicateKeyError(f"dup key: {SECRET}", 11000)
        except DuplicateKeyError:
            dict[str, str]()[SECRET]
    except KeyError as error:
        structlog.get_logger().error("internal error", exc_info=error)
    try:
        SECRET.absent  # type: ignore[attr-defined]  # noqa: B018
    except AttributeError as error:
        structlog.get_logger().error("internal error", exc_info=error)
    finally:
        structlog.reset_defaults()
    printed = capfd.readouterr().err
    assert SECRET not in printed
    for expected in ("pymongo.errors.DuplicateKeyError, code 11000", "KeyError", "test_log.py", "has no attribute"):
        assert expected in printed


@pytest.mark.parametrize(
    "line",
    [
        {"event": "rpc", "level": "info", "timestamp": "2026-12-01T00:00:00Z", "code": "OK", "duration_ms": 1.2},
        {"event": "a long event " * 4, "level": "critical", "quoted": 'a "b"', "equal": "a=b", "none": None},
    ],
)
def test_a_line_of_text_is_structlogs_own(line: dict[str, object]) -> None:
    own = structlog.dev.ConsoleRenderer(colors=False)
    assert structlog.dev.ConsoleRenderer(columns=COLUMNS)(None, "", {**line}) == own(None, "", {**line})
