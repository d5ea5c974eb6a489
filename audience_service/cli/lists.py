"""`audience-service lists`: custom audiences, and the upload of CSV files to them."""

import click

from audience_service.cli.audiences import AD_PLATFORMS
from audience_service.cli.client import ClientOptions, client_options, connect, request_id_option
from audience_service.cli.output import format_time, print_list, print_resource
from audience_service.cli.upload import upload
from audience_service.domain.core.context import Scope
from audience_service.pb.audience.v1 import custom_audience_service_pb2 as pb


@click.group()
def lists() -> None:
    """Create lists, and upload CSV files to them."""


lists.add_command(upload)


@lists.command("list")
@click.option("--name", default="", help="Only names that contain this text.")
@click.option(
    "--type", "type_", default="", help="Only this type: file_upload, customer_match, lookalike, retargeting_pixel."
)
@client_options
def list_(*, name: str, type_: str, options: ClientOptions) -> None:
    """List the custom audiences of the org."""
    with connect(options) as client:
        request = pb.ListCustomAudiencesRequest(name=name, type=type_, page_size=100)
        found = list(client.items(client.custom_audiences.ListCustomAudiences, request, "custom_audiences"))
    print_list(
        options,
        found,
        lambda each: each.id,
        {
            "id": lambda each: each.id,
            "name": lambda each: each.name,
            "type": lambda each: each.type,
            "contacts": lambda each: each.contact_count if each.HasField("contact_count") else "",
            "refreshed (UTC)": lambda each: format_time(each.refresh_time),
            "author": lambda each: each.author,
        },
    )


@lists.command()
@click.argument("name")
@click.option("--platform", default="", help=f"Hash the uploaded rows for this ad platform: {AD_PLATFORMS}.")
@click.option("--datatype", default="", help="The datatype of the records. Default: contact.")
@click.option("--description", default="", help="The description.")
@request_id_option
@client_options
def create(
    *, name: str, platform: str, datatype: str, description: str, request_id: str, options: ClientOptions
) -> None:
    """Create an empty list, to which `lists upload` then uploads CSV files."""
    draft = pb.CustomAudience(
        name=name, description=description, datatype=datatype, type="customer_match" if platform else "file_upload"
    )
    if platform:
        draft.customer_match.platform = platform
    with connect(options, Scope.READ, Scope.WRITE, request_id=request_id) as client:
        request = pb.CreateCustomAudienceRequest(custom_audience=draft, request_id=request_id)
        created = client.call(client.custom_audiences.CreateCustomAudience, request)
    print_resource(options, created, (("id", created.id), ("name", created.name), ("type", created.type)))
