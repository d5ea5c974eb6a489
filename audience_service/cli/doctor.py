"""`audience-service doctor`: checks the configuration and the database, and says what to do."""

import json
from collections.abc import Iterator
from dataclasses import asdict

import click

from audience_service.mongo.diagnosis import Finding, Level, diagnose
from audience_service.settings import Settings
from audience_service.settings_error import SettingsError
from audience_service.wiring.server import build_key_ring
from audience_service.wiring.store import open_store


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the findings as a JSON array.")
def doctor(*, as_json: bool) -> None:
    """Check settings, key and database. Exits with 1 if a check fails; a warning does not."""
    findings = list(_examine())
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            click.echo(f"{finding.level:<4}  {finding.check:<12}{finding.message}")
    if any(finding.level is Level.FAIL for finding in findings):
        raise SystemExit(1)


def _examine() -> Iterator[Finding]:
    try:
        settings = Settings.load()
    except SettingsError as error:
        yield from (Finding("settings", Level.FAIL, line) for line in str(error).splitlines())
        return
    yield Finding("settings", Level.OK, "every variable is a setting with a valid value")
    try:
        build_key_ring(settings)
        yield Finding("key", Level.OK, f"verifies {', '.join(settings.jwt_algorithms)} tokens")
        settings.sealing_keys()
        yield Finding("sealing key", Level.OK, "seals page tokens, cursors and resume tokens")
        settings.hash_secret()
        yield Finding("hash key", Level.OK, "keys the hashes of addresses, numbers and erased contacts")
    except SettingsError as error:
        yield Finding("key", Level.FAIL, str(error))
    if settings.mongodb_uri is None:
        yield Finding("database", Level.WARN, "AUDIENCE_MONGODB_URI is unset: the service serves samples from memory")
        return
    try:
        store = open_store(settings)
    except SettingsError as error:
        yield Finding("database", Level.FAIL, str(error))
        return
    yield from diagnose(store, settings.datatypes, settings.related_datatypes)
    store.close()
