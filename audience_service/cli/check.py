"""`audience-service check`: which audiences a contact is a member of, and why."""

from collections.abc import Iterator

import click
from rich.text import Text
from rich.tree import Tree

from audience_service.cli.audiences import AUDIENCES, Named, find
from audience_service.cli.client import Client, ClientOptions, client_options, connect
from audience_service.cli.output import (
    format_time,
    format_value,
    note_console,
    output_console,
    print_json,
    print_list,
    print_table,
    printable,
)
from audience_service.domain.core.context import Scope
from audience_service.pb.audience.v1 import membership_service_pb2 as pb


@click.command()
@click.argument("contact_id")
@click.argument("audiences", nargs=-1)
@click.option("--why", is_flag=True, help="Explain the result for each audience, condition by condition.")
@client_options
def check(*, contact_id: str, audiences: tuple[str, ...], why: bool, options: ClientOptions) -> None:
    """Show which audiences a contact is a member of, and why.

    Without AUDIENCES, list all that it is a member of. --why explains the result for each of AUDIENCES. It shows the
    values of the contact if the token has the scope audiences.export.
    """
    if why and not audiences:
        raise click.UsageError("--why needs AUDIENCES")
    with connect(options, Scope.READ, *((Scope.EXPORT,) if why else ())) as client:
        if not audiences:
            _print_audiences(client, contact_id, options)
            return
        found = [find(client, audience, AUDIENCES) for audience in audiences]
        if why:
            for audience in found:
                _print_explanation(client, contact_id, audience, options)
            return
        request = pb.CheckMembershipRequest(audience_ids=[each.id for each in found], contact_ids=[contact_id])
        response = client.call(client.membership.CheckMembership, request)
    [membership] = response.memberships
    if options.as_json:
        print_json(response)
        return
    if not membership.found:
        raise click.ClickException(f"the org has no record {printable(contact_id)}")
    if options.quiet:
        click.echo("".join(f"{audience_id}\n" for audience_id in membership.audience_ids), nl=False)
        return
    member_of = set(membership.audience_ids)
    print_table(
        ("member", "id", "name"), (("yes" if each.id in member_of else "no", each.id, each.name) for each in found)
    )


def _print_audiences(client: Client, contact_id: str, options: ClientOptions) -> None:
    request = pb.ListAudiencesOfContactRequest(contact_id=contact_id)
    pages = list(client.pages(client.membership.ListAudiencesOfContact, request))
    found = [audience for page in pages for audience in page.audiences]
    unusable = [audience_id for page in pages for audience_id in page.unusable_audience_ids]
    columns = {"id": lambda each: each.id, "name": lambda each: each.name, "type": lambda each: each.type}
    print_list(options, found, lambda each: each.id, columns)
    if unusable:
        note_console().print(f"not evaluated, since their filters fail: {', '.join(unusable)}")


def _print_explanation(client: Client, contact_id: str, audience: Named, options: ClientOptions) -> None:
    request = pb.ExplainMembershipRequest(audience_id=audience.id, contact_id=contact_id)
    found = client.call(client.membership.ExplainMembership, request)
    if options.as_json:
        print_json(found)
        return
    title = "is a member" if found.member else "is not a member"
    if options.quiet:
        click.echo(f"{audience.id} {'yes' if found.member else 'no'}")
        return
    tree = Tree(Text(f"{contact_id} {title} of ").append(printable(audience.name)))
    _add_condition(tree, found.condition)
    output_console().print(tree)
    if found.HasField("next_change_time"):
        output_console().print(f"time alone may change this at {format_time(found.next_change_time)} (UTC)")


def _add_condition(tree: Tree, condition: pb.ConditionResult) -> None:
    label = Text("✓ " if condition.matched else "✗ ", style="green" if condition.matched else "red")
    branch = tree.add(label.append("".join(_describe(condition)), style="default"))
    for child in condition.conditions:
        _add_condition(branch, child)


def _describe(condition: pb.ConditionResult) -> Iterator[str]:
    yield str(printable(condition.description))
    if condition.HasField("value"):
        yield f"; the value is {printable(format_value(condition.value))}"
    if condition.error:
        yield f"; {printable(condition.error)}"
