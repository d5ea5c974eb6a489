"""`python -m bench.smoke --uri URI`: fails if a row has become slower than recorded, compared with its reference.

A ratio of two medians of one run hardly depends on the machine's speed, or on other work. A row that seems slower is
measured again, for twice as long each time: only a row that stays slower fails. `bench/ratios.json` has the recorded
ratios. `--record` replaces them.

The ratios depend on the database, so on another one than recorded nothing is compared.
"""

import json
import secrets
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from pymongo import MongoClient
from rich.console import Console

from bench.dataset import prepare
from bench.measure import Row, measure
from bench.processes import Server, audience_service
from bench.reference import Document
from bench.rows import rows
from bench.table import Table

RATIOS_PATH = Path(__file__).with_name("ratios.json")
_CONTACTS = 10_000
_MAX_GROWTH = 1.5
"""A row fails if its ratio is this many times the recorded one."""
_DURATION_SECONDS, _MAX_DURATION_SECONDS, _RECORD_SECONDS = 0.4, 3.2, 1.6
"""Of the first and the last attempt at a row, and of a row that is recorded."""


@click.command()
@click.option("--uri", required=True, help="The MongoDB to measure on. The command creates a database and drops it.")
@click.option("--record", is_flag=True, help="Measure for longer, and replace the recorded ratios.")
def main(*, uri: str, record: bool) -> None:
    """Compare the ratios of 10,000 contacts with the recorded ones."""
    console = Console()
    recorded: dict[str, Any] = json.loads(RATIOS_PATH.read_text())
    name = f"bench_smoke_{secrets.token_hex(4)}"
    with MongoClient[Document](uri, tz_aware=True) as client:
        info = client.server_info()
        database_version = f"{info['version']} {info['gitVersion']}"
        try:
            prepare(uri, _CONTACTS, console, name)
            with ExitStack() as stack, audience_service(uri, name) as server:
                all_rows = rows(server, client[name], stack)
                if record:
                    ratios = {row_key(row): measure(row, server, _CONTACTS, _RECORD_SECONDS).ratio for row in all_rows}
                else:
                    limits = {key: ratio * _MAX_GROWTH for key, ratio in recorded["ratios"].items()}
                    ratios = {row_key(row): measure_ratio(row, server, limits.get(row_key(row))) for row in all_rows}
        finally:
            client.drop_database(name)
    if record:
        rounded = {key: round(ratio, 2) for key, ratio in ratios.items()}
        RATIOS_PATH.write_text(json.dumps({"database": database_version, "ratios": rounded}, indent=2) + "\n")
        return
    click.echo(_table(ratios, recorded["ratios"]))
    if recorded["database"] != database_version:
        console.print(
            f"Nothing is compared: the ratios are those of {recorded['database']}, and this is {database_version}. "
            "Record its ratios with --record."
        )
    elif slower := find_slower(ratios, recorded["ratios"]):
        sys.exit("\n".join(slower))


def row_key(row: Row) -> str:
    """The name of a row in the file."""
    return f"{row.name} / {row.reference_name}"


def measure_ratio(row: Row, server: Server, limit: float | None) -> float:
    """The ratio of a row; above the limit, the smallest one of several attempts."""
    seconds = _DURATION_SECONDS
    ratio = measure(row, server, _CONTACTS, seconds).ratio
    while limit is not None and ratio > limit and seconds < _MAX_DURATION_SECONDS:
        seconds *= 2
        ratio = min(ratio, measure(row, server, _CONTACTS, seconds).ratio)
    return ratio


def find_slower(ratios: dict[str, float], recorded: dict[str, float]) -> list[str]:
    """The rows that are slower than recorded, each in a line. Rows without a recorded ratio are never slower."""
    return [
        f"{key}: {ratio:.2f} times the reference, and {recorded[key]:.2f} are recorded"
        for key, ratio in ratios.items()
        if key in recorded and ratio > recorded[key] * _MAX_GROWTH
    ]


def _table(ratios: dict[str, float], recorded: dict[str, float]) -> Table:
    table = Table("RPC / reference", "ratio", "recorded", title=f"{_CONTACTS:,} contacts: service / reference")
    for key, ratio in ratios.items():
        table.add_row(key, f"{ratio:.2f}", f"{recorded[key]:.2f}" if key in recorded else "")
    return table


if __name__ == "__main__":
    main()
