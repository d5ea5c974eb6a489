"""The command line: serve, health, demo, token, seed, indexes, taxonomy; the rest ask a server."""

from importlib import import_module

import click

from audience_service.domain.core.errors import AudienceError
from audience_service.settings import SettingsError

_COMMANDS = (
    "demo",
    "health",
    "indexes",
    "insights",
    "lookalike",
    "overlap",
    "reach",
    "seed",
    "serve",
    "taxonomy",
    "token",
    "upload",
)
"""Each is in the module of its name."""


class _Commands(click.Group):
    """Loads a command when it is named, since `health` runs every few seconds and needs little of what `serve` does.

    Shows what is wrong with settings or the store as a message, not as a traceback.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        """Their names."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command of that name."""
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"{__name__}.{cmd_name}"), cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the command. Raises ClickException for the errors that a user can mend."""
        try:
            return super().invoke(ctx)
        except (SettingsError, AudienceError) as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="audience-service")
def main() -> None:
    """Audiences and segmentation for a multi-tenant CRM, as a gRPC service on MongoDB.

    Settings come from the environment (AUDIENCE_...); docs/operations.md describes them.
    """
