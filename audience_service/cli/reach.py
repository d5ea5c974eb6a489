"""`audience-service reach`: the size of an audience or a filter, compared with its org."""

import json

import click
from google.protobuf.json_format import MessageToDict
from rich.console import Console

from audience_service.cli.arguments import name_and_datatype
from audience_service.cli.charts import bar_chart, printable
from audience_service.cli.client import as_dict, client_options, connect
from audience_service.pb.audience.v1 import reach_service_pb2 as pb
from audience_service.pb.audience.v1 import resources_pb2 as resources


@click.command()
@click.argument("audience_id", default="")
@click.option("--datatype", default="contact", show_default=True, help="The datatype of --where.")
@click.option("--where", default="", help='A filter as JSON, instead of an audience: \'{"country": "US"}\'.')
@client_options
def reach(*, audience_id: str, datatype: str, where: str, org: str, token: str, timeout: float, as_json: bool) -> None:
    """Count the members of an audience or a filter.

    Calls the server at AUDIENCE_LISTEN.
    """
    if bool(audience_id) == bool(where):
        raise click.UsageError("give one of AUDIENCE_ID and --where")
    with connect(org, token, timeout) as client:
        name = "filter"
        request = pb.EstimateReachRequest(filter=resources.Filter(datatype=datatype, where_json=where))
        if audience_id:
            name, datatype = name_and_datatype(client, audience_id)
            request = pb.EstimateReachRequest(audience_id=audience_id)
        estimate = client.call(client.reach.EstimateReach, request)
        org_request = pb.EstimateReachRequest(filter=resources.Filter(datatype=datatype, where_json="{}"))
        org_estimate = client.call(client.reach.EstimateReach, org_request)
    total = org_estimate.count
    if as_json:
        extra = {"total": total, "totalExact": org_estimate.exact}
        click.echo(json.dumps({**as_dict(estimate), **extra}, ensure_ascii=False))
        return
    console = Console(highlight=False)
    console.print(bar_chart(f"{datatype} of {org}", [(printable(name), estimate.count)], total))
    prefix = "" if org_estimate.exact else "about "
    console.print(f"of {prefix}{total:,} not archived, read at {estimate.read_time.ToJsonString()}")
    if not estimate.exact:
        console.print(
            f"estimated from a sample: {estimate.lower_bound:,} to {estimate.upper_bound:,} (95 % confidence)"
        )
    if estimate.HasField("sample_profile"):
        console.print("\na sample member, masked:")
        console.print_json(json.dumps(MessageToDict(estimate.sample_profile)), ensure_ascii=True)
