"""The command line. Most commands call a running server (`client.py`); docs/how-to/command-line.md is their guide."""

from importlib import import_module

import click
from click.shell_completion import CompletionItem

from audience_service.domain.core.errors import AudienceError
from audience_service.settings_error import SettingsError

_COMMANDS = {
    "check": "Show which audiences a contact is a member of, and why.",
    "demo": "Show how a marketer finds, counts and follows an audience.",
    "doctor": "Check settings, key and database.",
    "erasures": "Manage the tombstones of erased people.",
    "explain": "Explain a filter in plain English, with its query plan.",
    "export": "Write identifiers of members as an ad platform accepts them.",
    "fields": "List the fields that a filter can test.",
    "gateway": "Serve JSON over HTTP, for a running server.",
    "health": "Check the health of the server.",
    "indexes": "Create the indexes that the database lacks.",
    "insights": "Break an audience down by dimension, compared with its org.",
    "lists": "Create lists, and upload CSV files to them.",
    "lookalike": "Show the model of a lookalike: its weights and its curve.",
    "members": "Show the members of an audience, or write them to a file.",
    "overlap": "Show the overlap of two to eight audiences, by id or name.",
    "reach": "Count the members of an audience or a filter.",
    "seed": "Add sample contacts, with companies, orders and events.",
    "segments": "List, show, create, edit and delete segments.",
    "serve": "Serve until SIGTERM or SIGINT, then drain.",
    "snapshots": "List, create, show, compare and delete snapshots.",
    "sync": "Keep the list of an ad platform equal to audiences.",
    "taxonomy": "Import, list or remove the exports of ad platforms.",
    "token": "Print a token for development.",
    "watch": "Print who enters (+) and exits (-) an audience, until Ctrl-C.",
}
"""The commands and what `--help` says of them. Each is in the module of the same name."""

EX_CONFIG = 78
"""The exit code of an invalid configuration (sysexits.h). A restart does not cure it."""

EX_TEMPFAIL = 75
"""The exit code of a failure that may pass by itself (sysexits.h): the same command can succeed later."""


class ConfigurationError(click.ClickException):
    """The settings are invalid."""

    exit_code = EX_CONFIG


class _Commands(click.Group):
    """Imports a command only when it runs: `health` runs every few seconds and needs few of the imports of `serve`.

    Prints errors in the settings or the store as messages, not as tracebacks.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        """The names of the commands."""
        return list(_COMMANDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without importing them, which takes a second."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands that begin so, without importing them, or the options."""
        found = [CompletionItem(name, help=text) for name, text in _COMMANDS.items() if name.startswith(incomplete)]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command with that name, None if it does not exist."""
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"{__name__}.{cmd_name}"), cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the command. Raises ClickException for errors that the user can correct."""
        try:
            return super().invoke(ctx)
        except SettingsError as error:
            raise ConfigurationError(str(error)) from error
        except AudienceError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="audience-service")
def main() -> None:
    """Audiences and segmentation for a multi-tenant CRM, as a gRPC service on MongoDB.

    Settings come from the environment (AUDIENCE_...); docs/how-to/run-in-production.md describes them.
    """
