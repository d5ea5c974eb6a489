"""The use case on exports: members as the rows that an ad platform takes."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from audience_service.domain.audiences.populations import Choice, Populations
from audience_service.domain.audiences.selection import Selection
from audience_service.domain.caller import Call
from audience_service.domain.errors import InvalidArgument
from audience_service.domain.exports.batches import Batches, ExportPart
from audience_service.domain.exports.consent import NO_CONSENT, lacking_consent
from audience_service.domain.exports.readiness import ReadinessCounter
from audience_service.domain.exports.rows import Changes, Everybody, ExportRows, RecordReader
from audience_service.domain.identifiers import Identifier, choose_rules
from audience_service.domain.identifiers.phones import REGIONS
from audience_service.domain.identifiers.rules import PlatformRules
from audience_service.domain.ports import MemberRepository
from audience_service.domain.snapshots.ready import ReadySnapshots
from audience_service.domain.snapshots.snapshot import Snapshot
from audience_service.domain.tokens import TokenSealer

_PURPOSE = "ads"


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What a caller wants: whose identifiers, which of them, and by which rules."""

    selection: Selection
    platform: str
    fields: Sequence[str] = ()
    rules: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    default_region: str = ""
    consent_fields: Sequence[str] = ()
    since_snapshot_id: str = ""
    cursor: str = ""


class Exports:
    """Streams the identifiers of members."""

    def __init__(
        self, members: MemberRepository, populations: Populations, snapshots: ReadySnapshots, sealer: TokenSealer
    ) -> None:
        self._members = members
        self._populations = populations
        self._snapshots = snapshots
        self._sealer = sealer

    def stream(self, call: Call, request: ExportRequest) -> Generator[ExportPart, None, None]:
        """The rows behind the cursor in the order of sk, in the platform's batches, then the readiness.

        What lies before the cursor is read again to be counted, since which rows are new cannot be told from counts.
        Raises InvalidArgument, AudienceNotFound, UnusableAudience, SnapshotNotReady, InvalidPageToken at the first
        part; SnapshotNotFound, StoreUnavailable, OutOfTime at any.
        """
        rules = choose_rules(request.platform, request.rules, request.options, request.fields)
        identifier = Identifier(rules, _region(request.default_region))
        choice = self._choose(call, request)
        since = self._since(call, request.since_snapshot_id, choice)
        binding = ("export", call.org, *choice.identity, *_told(request, rules))
        batches = Batches(self._sealer, binding, rules, identifier.columns)
        position, counter = batches.begin(request.cursor), ReadinessCounter(identifier)
        source = self._source(call, choice, since, identifier, counter)
        for operation, rows in source.operations():
            with closing(rows):
                position = yield from batches.parts(rows, operation, position)
        removals, exclusions = source.removals(), self._populations.exclusions(call, choice)
        self._populations.check_whole(call, choice, None)
        if since:
            # Rows that are missing are as if nobody had been on it.
            self._snapshots.check_whole(call, since)
        yield batches.end(position, counter.readiness(exclusions, rules, removals))

    def _choose(self, call: Call, request: ExportRequest) -> Choice:
        """The members to send, and who is left out, those without consent last."""
        selection = replace(request.selection, purpose=request.selection.purpose or _PURPOSE)
        choice = self._populations.choose(call, selection)
        if not request.consent_fields:
            return choice
        lacking = lacking_consent(choice.candidates.datatype, request.consent_fields)
        return self._populations.less(choice, NO_CONSENT, lacking)

    def _since(self, call: Call, snapshot_id: str, choice: Choice) -> Snapshot | None:
        if not snapshot_id:
            return None
        since = self._snapshots.ready(call, snapshot_id)
        datatype = choice.candidates.datatype
        if since.datatype != datatype:
            raise InvalidArgument.at("since_snapshot_id", f"is a snapshot of {since.datatype}, not of {datatype}")
        return since

    def _source(
        self, call: Call, choice: Choice, since: Snapshot | None, identifier: Identifier, counter: ReadinessCounter
    ) -> ExportRows:
        reader = RecordReader(self._members, call, identifier.record_paths)
        if since is None:
            return Everybody(reader, counter, choice.population)
        return Changes(reader, identifier, counter, choice.population, since)


def _region(text: str) -> str:
    region = text.upper()
    if region and region not in REGIONS:
        raise InvalidArgument.at("default_region", f"{text[:50]!r} is no country in two letters, like US")
    return region


def _told(request: ExportRequest, rules: PlatformRules) -> tuple[Any, ...]:
    """What tells an export from others of the same members."""
    fields = [rule.field for rule in rules.fields]
    told = rules.version, dict(rules.chosen), fields, request.default_region.upper(), sorted(request.consent_fields)
    return *told, request.since_snapshot_id
