"""The warnings about a filter, with what a sample of the org's records shows.

The sample is read while the caller's own work is done, and cached. So a warning costs no wait, or a short one: if the
sample takes longer than the work, `warnings` waits for it up to MAX_WAIT_SECONDS. A sample keeps the warnings about the
filters that were compared with it.
"""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import replace

import bson

from audience_service.domain.core.context import Deadline, RequestContext
from audience_service.domain.core.errors import AudienceError, InvalidFilter
from audience_service.domain.filters import Filter, FilterCompiler, FilterWarning
from audience_service.domain.filters.ast import Node, Related
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


class PendingWarnings:
    """The warnings about one filter, while the samples that they need are read."""

    def __init__(
        self,
        node: Node,
        audience_filter: Filter,
        compiler: FilterCompiler,
        fields: Mapping[str, "Future[Fields]"],
        failures: "Sequence[tuple[UnevaluatedRecords, Future[int | None]]]" = (),
    ) -> None:
        """`failures` are the numbers of records that the filter cannot evaluate as written."""
        self._node = node
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
        key = self._filter.exact, bson.encode({"where": self._filter.where})
        is_small = len(profiles) == 1 and len(key[1]) <= _MAX_KEPT_BYTES
        kept = own.warnings if is_small and isinstance(own, FieldProfiles) else {}
        found = kept.get(key)
        if found is None:
            found = self._compiler.lint(self._node, self._filter.datatype, profiles)
            if len(kept) < _MAX_KEPT_FILTERS:
                kept[key] = found
        return found


class FilterLinter:
    """Lints filters with cached samples."""

    def __init__(self, catalog: FieldCatalog, compiler: FilterCompiler) -> None:
        self._catalog = catalog
        self._compiler = compiler
        self._cache = FieldCache(self._read)
        self._executor = ThreadPoolExecutor(_COUNT_THREADS, thread_name_prefix="failure-count")

    def begin(self, ctx: RequestContext, audience_filter: Filter) -> PendingWarnings | None:
        """Begin to read what the warnings about a filter need. None if the filter is not valid."""
        node = self._parse(audience_filter)
        if node is None:
            return None
        fields = self._begin_fields(ctx, node, audience_filter)
        failures = [
            (failing, self._executor.submit(self._count_failing, ctx.org, failing))
            for failing in failing_records(node, audience_filter.datatype)
        ]
        return PendingWarnings(node, audience_filter, self._compiler, fields, failures)

    def read_ahead(self, ctx: RequestContext, audience_filter: Filter) -> None:
        """Begin to read the samples that a later `begin` needs."""
        node = self._parse(audience_filter)
        if node is not None:
            self._begin_fields(ctx, node, audience_filter)

    def fields(self, ctx: RequestContext, datatype: str) -> Fields:
        """The fields of a datatype, waiting for the sample up to MAX_WAIT_SECONDS; none without a sample."""
        return _result(self._cache.get(ctx.org, datatype), _wait_until(ctx.deadline))

    def close(self) -> None:
        """Stop reading samples and counting."""
        self._cache.close()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _parse(self, audience_filter: Filter) -> Node | None:
        if audience_filter.where is None:
            return None
        try:
            return self._compiler.parse(audience_filter)
        except InvalidFilter:
            return None

    def _begin_fields(self, ctx: RequestContext, node: Node, audience_filter: Filter) -> dict[str, "Future[Fields]"]:
        related = (inner.datatype for inner in all_nodes(node) if isinstance(inner, Related))
        datatypes = dict.fromkeys([audience_filter.datatype, *related])
        return {datatype: self._cache.get(ctx.org, datatype) for datatype in datatypes}

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
