"""Scans: mark the row of every current member, then let the database compare them with the stored rows.

A scan that does not complete decides nothing: its marks only keep rows that a member has.
"""

from collections.abc import Generator
from contextlib import closing
from itertools import islice

from audience_service.domain.audiences.repository import MemberRepository
from audience_service.domain.audiences.selection_resolver import SelectionResolver
from audience_service.domain.core.clock import now
from audience_service.domain.core.context import RequestContext
from audience_service.domain.exports.readiness import ReadinessCounter
from audience_service.domain.exports.rows import RecordReader
from audience_service.domain.exports.selection import resolve_members
from audience_service.domain.filters.population import Population
from audience_service.domain.identifiers import IdentifierExtractor, choose_rules
from audience_service.domain.identifiers.countries import read_default_region
from audience_service.domain.identifiers.rules import PlatformRules
from audience_service.domain.syncs.leases import SyncLease
from audience_service.domain.syncs.model import RowFormat, Scan, Sync, SyncRow
from audience_service.domain.syncs.repository import SyncRepository, SyncRowRepository

_BATCH_SIZE = 1_000


class SyncScanner:
    """Scans the members of syncs."""

    def __init__(
        self,
        members: MemberRepository,
        selection_resolver: SelectionResolver,
        syncs: SyncRepository,
        rows: SyncRowRepository,
    ) -> None:
        self._members = members
        self._selection_resolver = selection_resolver
        self._syncs = syncs
        self._rows = rows

    def scan(self, ctx: RequestContext, sync: Sync, lease: SyncLease) -> Scan:
        """A complete scan. Raises LeaseLost, AudienceNotFound, UnusableAudience, SnapshotNotFound and others."""
        started_at, spec = now(), sync.spec
        rules = choose_rules(spec.platform, spec.rules_version, spec.options, spec.fields)
        region = read_default_region(spec.default_region, "default_region")
        identifier = IdentifierExtractor(rules, region, has_country_codes=spec.phones_have_country_code)
        counter = ReadinessCounter(identifier)
        resolved = resolve_members(ctx, self._selection_resolver, spec.selection, spec.consent_fields)
        row_format = format_of(rules, identifier)
        number, format_index = self._syncs.start_scan(ctx.org, sync.id, lease.current, row_format, ctx.deadline)
        reader = RecordReader(self._members, ctx, identifier.record_paths)
        with closing(self._rows_of(ctx, sync, reader, counter, resolved.population, row_format)) as rows:
            while chunk := list(islice(rows, _BATCH_SIZE)):
                self._rows.mark(ctx.org, sync.id, number, format_index, chunk, lease.renew())
        self._selection_resolver.verify_complete(ctx, resolved, None)
        exclusions = self._selection_resolver.exclusions(ctx, resolved)
        expired_before = started_at - spec.resend_after if spec.resend_after else None
        self._rows.compare(ctx.org, sync.id, number, expired_before, lease.renew(force=True))
        readiness = counter.readiness(exclusions, rules)
        scan = Scan(
            number=number,
            sync_version=sync.version,
            rules_version=rules.version,
            started_at=started_at,
            ended_at=now(),
            member_count=readiness.members,
            consented_count=readiness.consented,
            valid_count=readiness.valid,
        )
        self._syncs.finish_scan(ctx.org, sync.id, lease.current, scan, ctx.deadline)
        return scan

    def _rows_of(
        self,
        ctx: RequestContext,
        sync: Sync,
        reader: RecordReader,
        counter: ReadinessCounter,
        population: Population,
        row_format: RowFormat,
    ) -> Generator[SyncRow, None, None]:
        scope = row_scope(ctx, sync)
        with closing(reader.records(population)) as records:
            for record in records:
                if (row := counter.row(record)) is not None:
                    values = tuple(row)
                    keys = tuple(row_format.keys_of(scope, values))
                    yield SyncRow(row_format.digest_of(scope, values), values, keys)


def row_scope(ctx: RequestContext, sync: Sync) -> str:
    """The text that makes the digests of a sync differ from those of all other syncs and orgs."""
    return f"{ctx.org}/{sync.id}"


def format_of(rules: PlatformRules, identifier: IdentifierExtractor) -> RowFormat:
    """The format of the rows that an extractor makes."""
    return RowFormat(
        rules_version=rules.version,
        options=dict(rules.chosen),
        batch_size=rules.batch_size,
        columns=tuple(identifier.columns),
        fields=tuple(identifier.fields),
        keys=tuple((name, tuple(indexes)) for name, indexes in identifier.keys),
    )
