"""The use case on exports: stream members as rows in the format of an ad platform.

A resumed export reads the members before its cursor again, without sending them: the number of different rows cannot be
continued from counts, and a cursor with all rows would be megabytes. A delta export reads all members, because a
removal must not use an identifier that a remaining member also has.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from audience_service.domain.audiences.repository import MemberRepository
from audience_service.domain.audiences.selection import AudienceSelector
from audience_service.domain.audiences.selection_resolver import ResolvedSelection, SelectionResolver
from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.core.page_tokens import TokenCodec
from audience_service.domain.export_log.model import ExportContent
from audience_service.domain.export_log.service import ExportLog
from audience_service.domain.exports.batches import Batcher, ExportPart
from audience_service.domain.exports.readiness import ReadinessCounter
from audience_service.domain.exports.rows import DeltaExport, ExportRows, FullExport, RecordReader
from audience_service.domain.exports.selection import resolve_members
from audience_service.domain.identifiers import IdentifierExtractor, choose_rules
from audience_service.domain.identifiers.countries import read_default_region
from audience_service.domain.identifiers.rules import PlatformRules
from audience_service.domain.snapshots.model import Snapshot
from audience_service.domain.snapshots.reader import SnapshotReader


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """The request of an export: the members, the identifier fields and the platform's rules."""

    selection: AudienceSelector
    platform: str
    fields: Sequence[str] = ()
    rules_version: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    default_region: str = ""
    phones_have_country_code: bool = False
    consent_fields: Sequence[str] = ()
    since_snapshot_id: str = ""
    cursor: str = ""


class Exports:
    """Streams the identifiers of members."""

    def __init__(
        self,
        members: MemberRepository,
        selection_resolver: SelectionResolver,
        snapshot_reader: SnapshotReader,
        tokens: TokenCodec,
        export_log: ExportLog,
    ) -> None:
        self._members = members
        self._selection_resolver = selection_resolver
        self._snapshot_reader = snapshot_reader
        self._tokens = tokens
        self._export_log = export_log

    def stream(self, ctx: RequestContext, request: ExportRequest) -> Generator[ExportPart, None, None]:
        """The rows after the cursor in the order of sk, in the platform's batches, then the readiness.

        A resumed stream reads the members before the cursor again: counting distinct rows needs all of them.
        Raises InvalidArgument, AudienceNotFound, UnusableAudience, SnapshotNotReady, InvalidPageToken at the first
        part; SnapshotNotFound, StoreUnavailable, OutOfTime at any.
        """
        rules = choose_rules(request.platform, request.rules_version, request.options, request.fields)
        parts = self._parts(ctx, request, rules)
        yield from self._export_log.record(ctx, _content(request, rules), parts, lambda part: len(part.rows))

    def _parts(
        self, ctx: RequestContext, request: ExportRequest, rules: PlatformRules
    ) -> Generator[ExportPart, None, None]:
        region = read_default_region(request.default_region, "default_region")
        identifier = IdentifierExtractor(rules, region, has_country_codes=request.phones_have_country_code)
        resolved_selection = resolve_members(ctx, self._selection_resolver, request.selection, request.consent_fields)
        since_snapshot = self._since_snapshot(ctx, request.since_snapshot_id, resolved_selection)
        binding = ("export", ctx.org, *resolved_selection.identity, *_export_identity(request, rules))
        batches = Batcher(self._tokens, binding, rules, identifier.columns)
        position, counter = batches.resume(request.cursor), ReadinessCounter(identifier)
        source = self._source(ctx, resolved_selection, since_snapshot, identifier, counter)
        for operation, rows in source.operations():
            with closing(rows):
                position = yield from batches.parts(rows, operation, position)
        removals, exclusions = source.removals(), self._selection_resolver.exclusions(ctx, resolved_selection)
        self._selection_resolver.verify_complete(ctx, resolved_selection, None)
        if since_snapshot:
            # If rows of the snapshot were deleted meanwhile, the comparison was incomplete.
            self._snapshot_reader.verify_complete(ctx, since_snapshot)
        yield batches.finish(position, counter.readiness(exclusions, rules, removals))

    def _since_snapshot(
        self, ctx: RequestContext, snapshot_id: str, resolved_selection: ResolvedSelection
    ) -> Snapshot | None:
        if not snapshot_id:
            return None
        snapshot = self._snapshot_reader.get_ready(ctx, snapshot_id)
        datatype = resolved_selection.candidates.datatype
        if snapshot.datatype != datatype:
            raise InvalidArgument.at(
                "since_snapshot_id", f"is a snapshot of {snapshot.datatype}; give a snapshot of {datatype}"
            )
        return snapshot

    def _source(
        self,
        ctx: RequestContext,
        resolved_selection: ResolvedSelection,
        since_snapshot: Snapshot | None,
        identifier: IdentifierExtractor,
        counter: ReadinessCounter,
    ) -> ExportRows:
        reader = RecordReader(self._members, ctx, identifier.record_paths)
        if since_snapshot is None:
            return FullExport(reader, counter, resolved_selection.population)
        return DeltaExport(reader, identifier, counter, resolved_selection.population, since_snapshot)


def _content(request: ExportRequest, rules: PlatformRules) -> ExportContent:
    """What the export log stores of a request."""
    selection = request.selection
    names = (*selection.audience_ids, selection.audience_id, selection.snapshot_id, request.since_snapshot_id)
    return ExportContent(
        rpc="ExportIdentifiers",
        audience_ids=tuple(name for name in names if name),
        exclude_audience_ids=tuple(selection.exclude_audience_ids),
        has_filter=selection.filter is not None,
        purpose=selection.purpose,
        platform=request.platform,
        fields=tuple(rule.field for rule in rules.fields),
    )


def _export_identity(request: ExportRequest, rules: PlatformRules) -> tuple[Any, ...]:
    """The options that distinguish an export from others of the same members."""
    fields = [rule.field for rule in rules.fields]
    region = read_default_region(request.default_region, "default_region"), request.phones_have_country_code
    identity = rules.version, dict(rules.chosen), fields, *region, sorted(request.consent_fields)
    return *identity, request.since_snapshot_id
