"""`audience-service overlap`: the overlap of audiences, as bars and as a matrix."""

from collections.abc import Sequence
from string import ascii_uppercase
from typing import TypeAlias

import click
from rich.table import Table
from rich.text import Text

from audience_service.cli.audiences import find
from audience_service.cli.charts import bar_chart, percent
from audience_service.cli.client import ClientOptions, client_options, connect
from audience_service.cli.output import output_console, print_json, printable
from audience_service.pb.audience.v1 import reach_service_pb2 as pb

Regions: TypeAlias = pb.GetOverlapRegionsResponse


@click.command()
@click.argument("audiences", nargs=-1, required=True)
@client_options
def overlap(*, audiences: Sequence[str], options: ClientOptions) -> None:
    """Show the overlap of two to eight audiences, by id or name."""
    with connect(options) as client:
        found = [find(client, audience) for audience in audiences]
        audience_ids, names = [one.id for one in found], [one.name for one in found]
        request = pb.GetOverlapRegionsRequest(audience_ids=audience_ids)
        response: Regions = client.call(client.reach.GetOverlapRegions, request)
    if options.as_json:
        print_json(response)
        return
    if options.quiet:
        click.echo(response.union_count)
        return
    letters = dict(zip(audience_ids, ascii_uppercase, strict=False))
    console = output_console()
    labels = [Text(f"{letter}  ") + printable(name) for letter, name in zip(letters.values(), names, strict=True)]
    sizes = [(label, size.size) for label, size in zip(labels, response.sizes, strict=True)]
    regions = [(Text(_format_region(letters, region.audience_ids)), region.count) for region in response.regions]
    console.print(bar_chart(f"audiences, of {response.union_count:,} members in total", sizes, response.union_count))
    console.print()
    console.print(bar_chart("members of exactly these audiences", regions, response.union_count))
    console.print()
    console.print(_overlap_matrix(response, letters))
    for line in _describe_relations(response, letters):
        console.print(line)


def _overlap_matrix(response: Regions, letters: dict[str, str]) -> Table:
    """A table with the share of each row's audience that is also in the column's."""
    shares: dict[tuple[str, str], tuple[int, float]] = {}
    for pair in response.pairwise:
        shares[pair.audience_id, pair.other_audience_id] = pair.count, pair.share_of_audience
        shares[pair.other_audience_id, pair.audience_id] = pair.count, pair.share_of_other
    table = Table(
        "",
        *letters.values(),
        title="share of the row's audience in the column's",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for audience_id, letter in letters.items():
        cells = [
            f"{percent(shares[audience_id, other][1], 1)}\n({shares[audience_id, other][0]:,})"
            if other != audience_id
            else "·"
            for other in letters
        ]
        table.add_row(letter, *cells)
    return table


def _describe_relations(response: Regions, letters: dict[str, str]) -> list[str]:
    duplicates = [
        f"{_format_region(letters, group.audience_ids)} have the same members" for group in response.duplicates
    ]
    return duplicates + [
        f"{letters[one.subset_audience_id]} is a subset of {letters[one.superset_audience_id]}"
        for one in response.subsets
    ]


def _format_region(letters: dict[str, str], audience_ids: Sequence[str]) -> str:
    """The letters of some audiences, with a dot for each of the others."""
    return " ".join(letter if audience_id in audience_ids else "·" for audience_id, letter in letters.items())
