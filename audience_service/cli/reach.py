"""`audience-service reach`: the size of an audience or a filter, compared with its org."""

import json

import click

from audience_service.cli.audiences import filter_options, find
from audience_service.cli.charts import bar_chart
from audience_service.cli.client import ClientOptions, as_dict, client_options, connect
from audience_service.cli.output import output_console, print_indented, print_warnings, printable
from audience_service.pb.audience.v1 import reach_service_pb2 as pb
from audience_service.pb.audience.v1 import resources_pb2 as resources
from audience_service.rpc.converters.structs import decode_struct


@click.command()
@click.argument("audience", default="")
@filter_options
@client_options
def reach(*, audience: str, datatype: str, where: str, options: ClientOptions) -> None:
    """Count the members of an audience or a filter."""
    if bool(audience) == bool(where):
        raise click.UsageError("give one of AUDIENCE and --where")
    with connect(options) as client:
        name = "filter"
        request = pb.EstimateReachRequest(filter=resources.Filter(datatype=datatype, where_json=where))
        if audience:
            found = find(client, audience)
            name, datatype = found.name, found.datatype
            request = pb.EstimateReachRequest(audience_id=found.id)
        estimate = client.call(client.reach.EstimateReach, request)
        if options.quiet and not options.as_json:
            click.echo(estimate.count)
            return
        org_request = pb.EstimateReachRequest(filter=resources.Filter(datatype=datatype, where_json="{}"))
        org_estimate = client.call(client.reach.EstimateReach, org_request)
    total = org_estimate.count
    if options.as_json:
        extra = {"total": total, "totalExact": org_estimate.exact}
        click.echo(json.dumps({**as_dict(estimate), **extra}, ensure_ascii=False))
        return
    console = output_console()
    console.print(bar_chart(f"{datatype} of {client.org}", [(printable(name), estimate.count)], total))
    prefix = "" if org_estimate.exact else "about "
    console.print(f"of {prefix}{total:,} not archived, read at {estimate.read_time.ToJsonString()}")
    if not estimate.exact:
        console.print(
            f"estimated from a sample: {estimate.lower_bound:,} to {estimate.upper_bound:,} (95 % confidence)"
        )
    print_warnings(estimate.warnings)
    if estimate.HasField("sample_profile"):
        console.print("\na sample member, masked:")
        print_indented(decode_struct(estimate.sample_profile))
