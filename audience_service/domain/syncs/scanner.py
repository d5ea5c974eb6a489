"""Scans: mark the row of every current member, then let the database compare them with the stored rows.

    full scan      read all members -> mark their rows with a new number -> store the hash and the row of each
    later scans    the database compares the hashes -> read the members that differ -> mark and drop rows -> store them

A scan that does not complete decides nothing. After an incomplete full scan, the next one is full again: the marks that
it left only keep rows that a member has. Other scans repeat the members that they had not stored yet.
"""

import dataclasses
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta

import phonenumbers

from audience_service.domain.audiences.selection_resolver import SelectionResolver
from audience_service.domain.core.clock import now
from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.page_tokens import digest
from audience_service.domain.core.record import Record
from audience_service.domain.exports.selection import resolve_members
from audience_service.domain.filters.population import Population
from audience_service.domain.identifiers import IdentifierExtractor, choose_rules
from audience_service.domain.identifiers.countries import read_default_region
from audience_service.domain.identifiers.rules import PlatformRules
from audience_service.domain.syncs.leases import SyncLease
from audience_service.domain.syncs.model import MemberSource, RowFormat, Scan, Sync, SyncMember, SyncRow
from audience_service.domain.syncs.repository import SyncMemberRepository, SyncRepository, SyncRowRepository

_FULL_SCAN_INTERVAL = timedelta(days=1)
"""How often all members are read. It limits the effect of a process that writes although it has lost its lease."""


@dataclass(frozen=True, slots=True)
class RunningScan:
    """A scan that has begun: its lease, whom it reads, and the number and the format that it marks rows with."""

    ctx: RequestContext
    sync: Sync
    lease: SyncLease
    population: Population
    reader: "RowReader"
    number: int
    format_index: int


class SyncScanner:
    """Scans the members of syncs."""

    def __init__(
        self,
        selection_resolver: SelectionResolver,
        syncs: SyncRepository,
        rows: SyncRowRepository,
        members: SyncMemberRepository,
    ) -> None:
        self._selection_resolver = selection_resolver
        self._syncs = syncs
        self._rows = rows
        self._members = members

    def scan(self, ctx: RequestContext, sync: Sync, lease: SyncLease) -> Scan:
        """A complete scan. Raises LeaseLost, AudienceNotFound, UnusableAudience, SnapshotNotFound and others."""
        started_at, spec = now(), sync.spec
        rules = choose_rules(spec.platform, spec.rules_version, spec.options, spec.fields)
        resolved = resolve_members(ctx, self._selection_resolver, spec.selection, spec.consent_fields)
        reader = RowReader(ctx, sync, rules)
        if _needs_full_scan(sync, reader.row_format, started_at):
            number, index = self._syncs.start_scan(ctx.org, sync.id, lease.current, reader.row_format, ctx.deadline)
            full_started_at: datetime | None = started_at
            read = self._read_all
        else:
            number, index = sync.scan_count, sync.formats.index(reader.row_format)
            full_started_at = sync.latest_scan.full_started_at if sync.latest_scan else None
            read = self._read_changed
        read(RunningScan(ctx, sync, lease, resolved.population, reader, number, index))
        self._selection_resolver.verify_complete(ctx, resolved, None)
        exclusions = self._selection_resolver.exclusions(ctx, resolved)
        expired_before = started_at - spec.resend_after if spec.resend_after else None
        self._rows.compare(ctx.org, sync.id, number, expired_before, lease.renew(force=True))
        consented_count, valid_count = self._members.count(ctx.org, sync.id, ctx.deadline)
        scan = Scan(
            number=number,
            sync_version=sync.version,
            rules_version=rules.version,
            started_at=started_at,
            ended_at=now(),
            member_count=consented_count + sum(exclusion.count for exclusion in exclusions),
            consented_count=consented_count,
            valid_count=valid_count,
            full_started_at=full_started_at,
        )
        self._syncs.finish_scan(ctx.org, sync.id, lease.current, scan, ctx.deadline)
        return scan

    def _read_all(self, scan: RunningScan) -> None:
        """Mark the rows of all members."""
        org, sync_id, lease = scan.ctx.org, scan.sync.id, scan.lease
        self._members.clear(org, sync_id, lease.renew(force=True))
        with closing(self._members.read(org, scan.population, scan.reader.source, None, scan.ctx.deadline)) as batches:
            for records in batches:
                rows, members = scan.reader.read(records)
                self._rows.mark(org, sync_id, scan.number, scan.format_index, rows, lease.renew())
                self._members.insert(org, sync_id, members, lease.renew())

    def _read_changed(self, scan: RunningScan) -> None:
        """Mark the rows that changed members have now, and drop those that no member has any more.

        A row is stored with a member before it is marked, and until it is dropped. So if this process dies, the next
        scan finds the same members, and every row that it may have to drop.
        """
        org, sync_id, lease, source = scan.ctx.org, scan.sync.id, scan.lease, scan.reader.source
        with closing(self._members.find_changed(org, sync_id, scan.population, source, scan.ctx.deadline)) as batches:
            for keys in batches:
                with closing(self._members.read(org, scan.population, source, keys, lease.renew())) as found:
                    rows, members = scan.reader.read([record for records in found for record in records])
                self._members.start(org, sync_id, members, lease.renew())
                self._rows.mark(org, sync_id, scan.number, scan.format_index, rows, lease.renew())
                dropped = set(self._members.find_rows(org, sync_id, keys, lease.renew()))
                dropped -= {row.digest for row in rows}
                dropped -= set(self._members.find_shared_rows(org, dropped, frozenset(keys), lease.renew()))
                self._rows.drop(org, sync_id, scan.number, dropped, lease.renew())
                removed = frozenset(keys) - {member.sk for member in members}
                self._members.replace(org, sync_id, members, removed, lease.renew())


class RowReader:
    """Makes rows of records in the format of a sync."""

    def __init__(self, ctx: RequestContext, sync: Sync, rules: PlatformRules) -> None:
        spec = sync.spec
        region = read_default_region(spec.default_region, "default_region")
        self._identifier = IdentifierExtractor(rules, region, has_country_codes=spec.phones_have_country_code)
        self._scope = row_scope(ctx, sync)
        self.row_format = format_of(rules, self._identifier)
        settings = [dataclasses.asdict(self.row_format), region, spec.phones_have_country_code]
        form = digest([self._scope, *settings, phonenumbers.__version__])
        self.source = MemberSource(tuple(self._identifier.record_paths), form)

    def read(self, records: Sequence[Record]) -> tuple[list[SyncRow], list[SyncMember]]:
        """The rows of records, and what to store of each."""
        rows: list[SyncRow] = []
        members: list[SyncMember] = []
        for record in records:
            values, row_digest = self._identifier.identify(record).row, None
            if values is not None:
                keys = tuple(self.row_format.keys_of(self._scope, values))
                row_digest = self.row_format.digest_of(self._scope, values)
                rows.append(SyncRow(row_digest, values, keys))
            members.append(SyncMember(record["sk"], record["source"], row_digest))
        return rows, members


def _needs_full_scan(sync: Sync, row_format: RowFormat, started_at: datetime) -> bool:
    """Whether what is stored of the members may not fit the sync, or the last full scan is incomplete or a day old.

    An erasure increments the number of scans.
    """
    latest = sync.latest_scan
    return (
        latest is None
        or latest.full_started_at is None
        or latest.number != sync.scan_count
        or latest.sync_version != sync.version
        or row_format not in sync.formats
        or latest.full_started_at < started_at - _FULL_SCAN_INTERVAL
    )


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
