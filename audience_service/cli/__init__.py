"""The command line: serve, health, demo, token, seed, indexes, taxonomy; the rest ask a server."""

import click

from audience_service.cli.demo import demo
from audience_service.cli.health import health
from audience_service.cli.indexes import indexes
from audience_service.cli.insights import insights
from audience_service.cli.lookalike import lookalike
from audience_service.cli.overlap import overlap
from audience_service.cli.reach import reach
from audience_service.cli.seed import seed
from audience_service.cli.serve import serve
from audience_service.cli.taxonomy import taxonomy
from audience_service.cli.token import token
from audience_service.cli.upload import upload
from audience_service.domain.errors import AudienceError
from audience_service.settings import SettingsError


class _Commands(click.Group):
    """Shows what is wrong with settings or the store as a message, not as a traceback."""

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


for command in (serve, health, demo, token, seed, indexes, taxonomy, reach, overlap, insights, lookalike, upload):
    main.add_command(command)
