"""`python -m bench --uri URI`: runs the rows at each size and prints the table."""

import json
import platform
from contextlib import ExitStack
from pathlib import Path

import click
from pymongo import MongoClient
from rich.console import Console

from bench.dataset import prepare
from bench.measure import Result, Timing, measure
from bench.processes import audience_service
from bench.reference import Document
from bench.rows import rows
from bench.table import Table


@click.command()
@click.option("--uri", required=True, help="The MongoDB to measure on. It retains the databases bench_<contacts>.")
@click.option("--contacts", default="10000,100000", show_default=True, help="Numbers of contacts, comma-separated.")
@click.option("--only", default="", help="Measure only rows whose name contains this.")
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path, dir_okay=False), help="Also write the results to this file."
)
def main(*, uri: str, contacts: str, only: str, json_path: Path | None) -> None:
    """Measure the service and hand-written pymongo code for the same results, alternating in one run."""
    console = Console()
    results: list[Result] = []
    for size in (int(part) for part in contacts.split(",")):
        name = prepare(uri, size, console)
        with (
            ExitStack() as stack,
            MongoClient[Document](uri, tz_aware=True) as client,
            audience_service(uri, name) as server,
        ):
            for row in rows(server, client[name], stack):
                if only in row.name:
                    with console.status(f"{row.name} compared with {row.reference_name}, {size:,} contacts"):
                        results.append(measure(row, server, size))
    click.echo(results_table(results))
    if json_path:
        json_path.parent.mkdir(parents=True, exist_ok=True)
        machine = {"python": platform.python_version(), "machine": platform.machine(), "system": platform.system()}
        report = {"machine": machine, "results": [result.as_json() for result in results]}
        json_path.write_text(json.dumps(report, indent=2) + "\n")
        console.print(f"results in {json_path}")


def results_table(results: list[Result]) -> Table:
    """A table of the results, one row each."""
    columns = (
        "RPC",
        "compared with",
        "contacts",
        "service",
        "reference",
        "ratio",
        "server CPU",
        "peak memory",
    )
    table = Table(
        *columns,
        title="Medians (interquartile range); ratio: time of the service / time of the reference",
    )
    for result in results:
        table.add_row(
            result.name,
            result.reference_name,
            f"{result.contacts:,}",
            _format_timing(result.service),
            _format_timing(result.reference),
            f"{result.ratio:.2f}",
            _format_seconds(result.cpu_seconds_per_call),
            f"{result.peak_megabytes:.0f} MB",
        )
    return table


def _format_timing(timing: Timing) -> str:
    factor, unit = (1000, "ms") if timing.median < 1 else (1, "s")
    digits = 1 if timing.median < 0.1 else 0 if timing.median < 1 else 2
    median, low, high = (f"{seconds * factor:.{digits}f}" for seconds in (timing.median, timing.low, timing.high))
    return f"{median} {unit} ({low} to {high})"


def _format_seconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


if __name__ == "__main__":
    main()
