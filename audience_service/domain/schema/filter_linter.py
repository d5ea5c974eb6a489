"""The warnings about a filter, with what a sample of the org's records shows.

The sample is read while the caller's own work is done, and cached. So a warning costs no wait, or a short one: if the
sample takes longer than the work, `warnings` waits for it up to MAX_WAIT_SECONDS. A sample keeps the warnings about the
filters that were compared with it.
"""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

from audience_service.domain.core.context import Deadline, RequestContext
from audience_service.domain.core.errors import AudienceError, InvalidFilter
from audience_service.domain.filters import Filter, FilterCompiler, FilterWarning
from audience_service.domain.filters.ast import Related
from audience_service.domain.filters.compiler import ParsedFilter
from audience_service.domain.filters.failing_expressions import UnevaluatedRecords, failing_records
from audience_service.domain.filters.lint.conjunctions import all_nodes
from audience_service.domain.filters.lint.field_index import FieldProfiles
from audience_service.domain.schema.field_cache import FieldCache, Fields
from audience_service.domain.schema.service import FieldCatalog
from audience_service.observability.tracing import background_span

MAX_WAIT_SECONDS = 1.0
"""The longest wait for a sample once the answer is complete. Later the answer has no warnings about fields."""
_ANSWER_SECONDS = 0.1
"""The time before the caller's deadline that is left to send the answer."""
_READ_SECONDS = 10.0
"""The longest time that reading a sample may take. It serves later calls as well, so no caller's deadline limits it."""

_COUNT_SECONDS = 2.0
"""The longest time that counting the records that a filter cannot evaluate may take."""
_COUNT_THREADS = 2
_MAX_KEPT_FILTERS, _MAX_KEPT_BYTES = 50, 2_048
"""The most filters whose warnings a sample keeps, and the size of the largest."""


@dataclass(frozen=True, slots=True)
class _Needs:
    """What the warnings about a filter need: samples of these datatypes, and counts of these records."""

    datatypes: tuple[str, ...]
    failing: tuple[UnevaluatedRecords, ...]

    @classmethod
    def of(cls, parsed: ParsedFilter, datatype: str) -> "_Needs":
        """The needs of a filter on a datatype."""
        related = (inner.datatype for inner in all_nodes(parsed.node) if isinstance(inner, Related))
        return cls(tuple(dict.fromkeys([datatype, *related])), tuple(failing_records(parsed.node, datatype)))


class PendingWarnings:
    """The warnings about one filter, while the samples that they need are read."""

    def __init__(
        self,
        parsed: ParsedFilter,
        audience_filter: Filter,
        compiler: FilterCompiler,
        fields: Mapping[str, "Future[Fields]"],
        failures: "Sequence[tuple[UnevaluatedRecords, Future[int | None]]]" = (),
    ) -> None:
        """`failures` are the numbers of records that the filter cannot evaluate as written."""
        self._parsed = parsed
        self._filter = audience_filter
        self._compiler = compiler
        self._fields = fields
        self._failures = failures
        self._found: Sequence[FilterWarning] | None = None

    @property
    def is_ready(self) -> bool:
        """Whether all samples have been read, and all failures counted."""
        are_counted = all(count.done() for _, count in self._failures)
        return are_counted and all(future.done() for future in self._fields.values())

    def get(self, deadline: Deadline) -> Sequence[FilterWarning]:
        """The warnings, with paths that begin at `filter`, waiting for samples up to MAX_WAIT_SECONDS."""
        if self._found is None:
            until = _wait_until(deadline)
            profiles = {name: _result(future, until) for name, future in self._fields.items()}
            counted = (failing.warning(_count(future, until)) for failing, future in self._failures)
            found = [*self._lint(profiles), *(warning for warning in counted if warning)]
            self._found = [replace(warning, field_path=f"filter.{warning.field_path}") for warning in found]
        return self._found

    def _lint(self, profiles: Mapping[str, Fields]) -> Sequence[FilterWarning]:
        own = profiles.get(self._filter.datatype)
        key = self._filter.exact, self._parsed.content
        is_small = len(profiles) == 1 and len(key[1]) <= _MAX_KEPT_BYTES
        kept = own.warnings if is_small and isinstance(own, FieldProfiles) else {}
        found = kept.get(key)
        if found is None:
            found = self._compiler.lint(self._parsed.node, self._filter.datatype, profiles)
            if len(kept) < _MAX_KEPT_FILTERS:
                kept[key] = found
        return found


class FilterLinter:
    """Lints filters with cached samples."""

    def __init__(self, catalog: FieldCatalog, compiler: FilterCompiler) -> None:
        self._catalog = catalog
        self._compiler = compiler
        self._cache = FieldCache(self._read)
        self._needs: WeakKeyDictionary[ParsedFilter, _Needs] = WeakKeyDictionary()
        """Of the filters that the compiler caches."""
        self._executor = ThreadPoolExecutor(_COUNT_THREADS, thread_name_prefix="failure-count")

    def begin(self, ctx: RequestContext, audience_filter: Filter) -> PendingWarnings | None:
        """Begin to read what the warnings about a filter need. None if the filter is not valid."""
        parsed = self._parse(audience_filter)
        if parsed is None:
            return None
        needs = self._needs_of(parsed, audience_filter)
        fields = self._begin_fields(ctx, needs)
        failures = [
            (failing, self._executor.submit(self._count_failing, ctx.org, failing)) for failing in needs.failing
        ]
        return PendingWarnings(parsed, audience_filter, self._compiler, fields, failures)

    def read_ahead(self, ctx: RequestContext, audience_filter: Filter) -> None:
        """Begin to read the samples that a later `begin` needs."""
        parsed = self._parse(audience_filter)
        if parsed is not None:
            self._begin_fields(ctx, self._needs_of(parsed, audience_filter))

    def fields(self, ctx: RequestContext, datatype: str) -> Fields:
        """The fields of a datatype, waiting for the sample up to MAX_WAIT_SECONDS; none without a sample."""
        return _result(self._cache.get(ctx.org, datatype), _wait_until(ctx.deadline))

    def close(self) -> None:
        """Stop reading samples and counting."""
        self._cache.close()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _parse(self, audience_filter: Filter) -> ParsedFilter | None:
        if audience_filter.where is None:
            return None
        try:
            return self._compiler.parse_filter(audience_filter)
        except InvalidFilter:
            return None

    def _needs_of(self, parsed: ParsedFilter, audience_filter: Filter) -> _Needs:
        needs = self._needs.get(parsed)
        if needs is None:
            needs = self._needs[parsed] = _Needs.of(parsed, audience_filter.datatype)
        return needs

    def _begin_fields(self, ctx: RequestContext, needs: _Needs) -> dict[str, "Future[Fields]"]:
        return {datatype: self._cache.get(ctx.org, datatype) for datatype in needs.datatypes}

    @background_span("count failing records")
    def _count_failing(self, org: str, failing: UnevaluatedRecords) -> int | None:
        return self._catalog.count_failing(org, failing, Deadline.after(_COUNT_SECONDS))

    def _read(self, org: str, datatype: str) -> tuple[Fields, bool]:
        sampled = self._catalog.sample_fields(org, datatype, Deadline.after(_READ_SECONDS))
        # Without a record, no field is known to be missing. Frequent values are not needed.
        profiles = sampled.profiles if sampled.sample.records else {}
        fields = FieldProfiles({path: replace(profile, top_values=()) for path, profile in profiles.items()})
        return fields, sampled.sample.is_complete


def _wait_until(deadline: Deadline) -> float:
    """The end of a wait for samples, on the monotonic clock."""
    until = time.monotonic() + MAX_WAIT_SECONDS
    return until if deadline.expires_at is None else min(until, deadline.expires_at - _ANSWER_SECONDS)


def _count(future: "Future[int | None]", until: float) -> int | None:
    """A count; None if it is not known in time."""
    try:
        return future.result(timeout=max(until - time.monotonic(), 0.0))
    except (AudienceError, TimeoutError, CancelledError):
        return None


def _result(future: "Future[Fields]", until: float) -> Fields:
    """The fields; none if they cannot be read in time."""
    try:
        return future.result(timeout=max(until - time.monotonic(), 0.0))
    except (AudienceError, TimeoutError):
        return {}
