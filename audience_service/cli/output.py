"""What commands print: tables and JSON to stdout, notes and progress to stderr."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import click
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.table import Table
from rich.text import Text

from audience_service.cli.client import ClientOptions, as_dict
from audience_service.pb.audience.v1.resources_pb2 import Filter
from audience_service.rpc.converters.structs import decode_struct

_Item = TypeVar("_Item", bound=Message)

_MAX_CELL_WIDTH = 60


def output_console() -> Console:
    """A console for results. It wraps lines and the cells of a table in a terminal, and not in a pipe."""
    return _wrap_in_terminals(Console(highlight=False))


def note_console(*, quiet: bool = False) -> Console:
    """A console for notes and progress, which goes to stderr. It prints nothing if `quiet`, and wraps as the other."""
    return _wrap_in_terminals(Console(stderr=True, highlight=False, quiet=quiet))


def _wrap_in_terminals(console: Console) -> Console:
    """The console, with lines of any width in a file or pipe. FORCE_COLOR makes neither of them a terminal."""
    if not console.file.isatty():
        console.width = sys.maxsize
    return console


def printable(text: str) -> Text:
    """The text, safe to print: markup has no effect, and control characters are replaced."""
    return Text("".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table without borders. Numbers are aligned on the right."""
    console, cells = output_console(), [list(row) for row in rows]
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(table.columns):
        if any(isinstance(row[index], (int, float)) for row in cells):
            column.justify = "right"
        column.overflow = "fold"
        column.max_width = _MAX_CELL_WIDTH if console.file.isatty() else None
    for row in cells:
        table.add_row(*(_format_cell(cell) for cell in row))
    console.print(table)


def print_resource(
    options: ClientOptions, resource: Any, properties: Iterable[tuple[str, object]], quiet_value: object = None
) -> bool:
    """Print a resource as JSON, its properties, or with --quiet a value alone, by default its id.

    Returns whether the properties were printed.
    """
    if options.as_json:
        print_json(resource)
    elif options.quiet:
        value = resource.id if quiet_value is None else quiet_value
        click.echo(f"{value}\n" if value != "" else "", nl=False)  # a dry run has no id
    else:
        print_properties(properties)
    return not (options.as_json or options.quiet)


def print_deleted(options: ClientOptions, resource: Any) -> None:
    """Print a resource that was deleted as JSON, or its id."""
    if options.as_json:
        print_json(resource)
    else:
        click.echo(resource.id if options.quiet else f"deleted {resource.id}")


def print_list(
    options: ClientOptions,
    items: Sequence[_Item],
    identify: Callable[[_Item], object],
    columns: Mapping[str, Callable[[_Item], object]],
) -> None:
    """Print items as a table; with --json as objects, one a line; with --quiet only what identifies each."""
    if options.as_json:
        print_json(*items)
    elif options.quiet:
        click.echo("".join(f"{identify(item)}\n" for item in items), nl=False)
    else:
        print_table(list(columns), ([read(item) for read in columns.values()] for item in items))


def print_properties(rows: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one a line. Names without a value are left out."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        if value not in (None, ""):
            table.add_row(name, _format_cell(value))
    output_console().print(table)


def print_json(*messages: Message) -> None:
    """Print messages as JSON objects, one a line, with their default values."""
    for message in messages:
        click.echo(json.dumps(as_dict(message), ensure_ascii=False))


def print_indented(value: object) -> None:
    """Print a JSON value for people: indented, in colour on a terminal, with control characters escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    safe = "".join(letter if letter.isprintable() or letter == "\n" else json.dumps(letter)[1:-1] for letter in text)
    output_console().print(JSONHighlighter()(safe), soft_wrap=True)


def print_warnings(warnings: Iterable[Any]) -> None:
    """Print warnings about a filter or a result to stderr, one a line."""
    console = note_console()
    for warning in warnings:
        path = getattr(warning, "field_path", "")
        line = Text(f"{warning.reason}: ", style="yellow").append(f"{path}: " if path else "")
        console.print(line.append(printable(warning.description)), soft_wrap=True)


def format_time(timestamp: Timestamp) -> str:
    """A time in UTC, to the second; empty if it is unset."""
    return f"{timestamp.ToDatetime():%Y-%m-%d %H:%M:%S}" if timestamp.seconds else ""


def format_filter(value: Filter) -> str:
    """The conditions of a filter as JSON text: Extended JSON if it was sent so."""
    if value.HasField("where_json"):
        return value.where_json
    return json.dumps(decode_struct(value.where), ensure_ascii=False)


def format_value(value: Value) -> str:
    """A JSON value as text: a string without its quotes, an integer without a fraction."""
    [shown] = decode_struct(Struct(fields={"": value})).values()
    return shown if isinstance(shown, str) else json.dumps(shown, ensure_ascii=False)


def _format_cell(cell: object) -> Text:
    return cell if isinstance(cell, Text) else printable(f"{cell:,}" if isinstance(cell, int) else str(cell))
