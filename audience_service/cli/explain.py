"""`audience-service explain`: a filter in plain English, its query plan and the index that would help."""

import click

from audience_service.cli.audiences import filter_options, select
from audience_service.cli.client import ClientOptions, client_options, connect
from audience_service.cli.output import output_console, print_json, print_properties, print_warnings, printable
from audience_service.pb.audience.v1 import filter_service_pb2 as pb


@click.command()
@click.argument("audience", default="")
@filter_options
@click.option("--analyze/--no-analyze", default=True, show_default=True, help="Run the query and measure it.")
@client_options
def explain(*, audience: str, where: str, datatype: str, analyze: bool, options: ClientOptions) -> None:
    """Explain a filter in plain English, with its query plan.

    Give an audience, by id or name, or --where.
    """
    request = pb.ExplainFilterRequest(analyze=analyze)
    with connect(options) as client:
        select(client, request, audience, where, datatype)
        found = client.call(client.filters.ExplainFilter, request)
    if options.as_json:
        print_json(found)
        return
    output_console().print(printable(found.description))
    if options.quiet:
        return
    plan, advice = found.plan, found.index_advice
    output_console().print()
    print_properties(
        (
            ("fields", ", ".join(found.fields)),
            ("plan", _format_plan(plan) if found.HasField("plan") else "the store in memory has no query plans"),
            ("members", plan.matched_count if plan.HasField("matched_count") else None),
            ("records read", plan.documents_examined if plan.HasField("documents_examined") else None),
            ("index keys read", plan.keys_examined if plan.HasField("keys_examined") else None),
            ("milliseconds", plan.milliseconds if plan.HasField("milliseconds") else None),
            ("index advice", _format_advice(advice) if found.HasField("index_advice") else None),
        )
    )
    print_warnings(found.warnings)


def _format_plan(plan: pb.QueryPlan) -> str:
    return f"index {plan.index}" if plan.kind == pb.PLAN_KIND_INDEX else "scan of the org's records"


def _format_advice(advice: pb.IndexAdvice) -> str:
    """The advice as a sentence, with the index to create if one helps."""
    fields = ", ".join(advice.index.fields)
    return f"{advice.reason}: {advice.datatype}({fields})" if advice.useful and fields else advice.reason
