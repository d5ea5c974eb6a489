"""Log lines: one per call, to stderr, as text or as JSON."""

import logging
import re
import sys
import traceback
from types import TracebackType
from typing import Any, TextIO

import structlog

_HARMLESS = (TypeError, AttributeError, NameError, ImportError, ZeroDivisionError, RecursionError)
"""Exceptions whose messages name types and variables. Those of others may quote a value of a record."""

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def configure_logs(log_format: str, level: str = "info") -> None:
    """Configure structlog to write to stderr in the format `text` or `json`."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(columns=COLUMNS, exception_formatter=_write_traceback)
    )
    exceptions = [structlog.processors.ExceptionRenderer(format_traceback)] if log_format == "json" else []
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *exceptions,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _write_value(value: Any) -> str:
    return value if isinstance(value, str) and not _QUOTED.search(value) else repr(value)


_QUOTED = re.compile(r"""[ \t=\r\n"']""")
COLUMNS = [
    structlog.dev.Column("timestamp", lambda _, value: str(value)),
    structlog.dev.Column("level", lambda _, value: f"[{value:<9}]"),
    structlog.dev.Column("event", lambda _, value: f"{value:<30}"),
    structlog.dev.Column("", lambda key, value: f"{key}={_write_value(value)}"),
]
"""The lines are structlog's own without colors. Its formatters, which know colors, take three times as long."""


def format_traceback(exc_info: ExcInfo) -> str:
    """The traceback of an exception and its causes, without values: the lines of code, and the exceptions' classes."""
    error = exc_info[1]
    lines = ["Traceback (most recent call last):\n", *traceback.format_tb(error.__traceback__), _name(error)]
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is None:
        return "".join(lines)
    lines.insert(0, format_traceback((type(cause), cause, None)) + "\n\nIt led to the following exception:\n\n")
    return "".join(lines)


def _name(error: BaseException) -> str:
    name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    if isinstance(error, _HARMLESS):
        return f"{name}: {error}"
    code = getattr(error, "code", None)  # of the database's errors
    return f"{name}, code {code}" if isinstance(code, int) else name


def _write_traceback(file: TextIO, exc_info: ExcInfo) -> None:
    file.write("\n" + format_traceback(exc_info))
