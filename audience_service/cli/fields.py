"""`audience-service fields`: the fields that the org's records have, with types and frequent values."""

import click

from audience_service.cli.client import ClientOptions, client_options, connect
from audience_service.cli.output import format_value, note_console, print_json, print_table
from audience_service.pb.audience.v1 import filter_service_pb2 as pb

_MAX_VALUES = 3


@click.command()
@click.argument("prefix", default="")
@click.option("--datatype", default="contact", show_default=True, help="The datatype of the records.")
@client_options
def fields(*, prefix: str, datatype: str, options: ClientOptions) -> None:
    """List the fields that a filter can test.

    The types and values are those of a sample. With PREFIX, only the paths that begin with it.
    """
    with connect(options) as client:
        request = pb.ListFieldsRequest(datatype=datatype, prefix=prefix)
        found = client.call(client.filters.ListFields, request)
    if options.as_json:
        print_json(found)
        return
    if options.quiet:
        click.echo("".join(f"{field.path}\n" for field in found.fields), nl=False)
        return
    print_table(
        ("path", "types", "filled", "frequent values"),
        (
            (
                field.path,
                ", ".join(each.name for each in field.types),
                f"{field.fill_rate:.0%}",
                ", ".join(f"{format_value(top.value)} {top.share:.0%}" for top in field.top_values[:_MAX_VALUES]),
            )
            for field in found.fields
        ),
    )
    source = "all" if found.complete else "a sample of"
    omitted = f"; {found.omitted_count:,} more fields, give a prefix" if found.omitted_count else ""
    note_console().print(f"from {source} {found.sampled_count:,} records{omitted}")
