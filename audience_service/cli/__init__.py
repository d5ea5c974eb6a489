"""The command line. Most commands call a running server (`client.py`); docs/how-to/command-line.md is their guide."""

from importlib import import_module

import click

from audience_service.domain.core.errors import AudienceError
from audience_service.settings import SettingsError

_COMMANDS = (
    "check",
    "demo",
    "doctor",
    "erasures",
    "explain",
    "export",
    "fields",
    "gateway",
    "health",
    "indexes",
    "insights",
    "lists",
    "lookalike",
    "members",
    "overlap",
    "reach",
    "seed",
    "segments",
    "serve",
    "snapshots",
    "sync",
    "taxonomy",
    "token",
    "watch",
)
"""The commands. Each is in the module of the same name."""


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
