"""The warnings about a filter, with what a sample of the org's records shows.

The sample is read while the caller's own work is done, and cached. So a warning costs no wait, or a short one: if the
sample takes longer than the work, `warnings` waits for it up to MAX_WAIT_SECONDS.
"""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace

from audience_service.domain.core.context import Deadline, RequestContext
from audience_service.domain.core.errors import AudienceError, InvalidFilter
from audience_service.domain.filters import Filter, FilterCompiler, FilterWarning
from audience_service.domain.filters.ast import Node, Related
from audience_service.domain.filters.lint.conjunctions import all_nodes
from audience_service.domain.schema.field_cache import FieldCache, Fields
from audience_service.domain.schema.service import FieldCatalog

MAX_WAIT_SECONDS = 1.0
"""The longest wait for a sample once the answer is complete. Later the answer has no warnings about fields."""
_ANSWER_SECONDS = 0.1
"""The time before the caller's deadline that is left to send the answer."""
_READ_SECONDS = 10.0
"""The longest time that reading a sample may take. It serves later calls as well, so no caller's deadline limits it."""


class PendingWarnings:
    """The warnings about one filter, while the samples that they need are read."""

    def __init__(
        self, node: Node, audience_filter: Filter, compiler: FilterCompiler, fields: Mapping[str, "Future[Fields]"]
    ) -> None:
        self._node = node
        self._filter = audience_filter
        self._compiler = compiler
        self._fields = fields
        self._found: Sequence[FilterWarning] | None = None

    @property
    def is_ready(self) -> bool:
        """Whether all samples have been read."""
        return all(future.done() for future in self._fields.values())

    def get(self, deadline: Deadline) -> Sequence[FilterWarning]:
        """The warnings, with paths that begin at `filter`, waiting for samples up to MAX_WAIT_SECONDS."""
        if self._found is None:
            until = _wait_until(deadline)
            profiles = {name: _result(future, until) for name, future in self._fields.items()}
            found = self._compiler.lint(self._node, self._filter.datatype, profiles)
            self._found = [replace(warning, field_path=f"filter.{warning.field_path}") for warning in found]
        return self._found


class FilterLinter:
    """Lints filters with cached samples."""

    def __init__(self, catalog: FieldCatalog, compiler: FilterCompiler) -> None:
        self._catalog = catalog
        self._compiler = compiler
        self._cache = FieldCache(self._read)

    def begin(self, ctx: RequestContext, audience_filter: Filter) -> PendingWarnings | None:
        """Begin to read the samples for the warnings about a filter. None if the filter is not valid."""
        if audience_filter.where is None:
            return None
        try:
            node = self._compiler.parse(audience_filter)
        except InvalidFilter:
            return None
        related = (inner.datatype for inner in all_nodes(node) if isinstance(inner, Related))
        datatypes = dict.fromkeys([audience_filter.datatype, *related])
        fields = {datatype: self._cache.get(ctx.org, datatype) for datatype in datatypes}
        return PendingWarnings(node, audience_filter, self._compiler, fields)

    def fields(self, ctx: RequestContext, datatype: str) -> Fields:
        """The fields of a datatype, waiting for the sample up to MAX_WAIT_SECONDS; none without a sample."""
        return _result(self._cache.get(ctx.org, datatype), _wait_until(ctx.deadline))

    def close(self) -> None:
        """Stop reading samples."""
        self._cache.close()

    def _read(self, org: str, datatype: str) -> tuple[Fields, bool]:
        sampled = self._catalog.sample_fields(org, datatype, Deadline.after(_READ_SECONDS))
        # Without a record, no field is known to be missing. Frequent values are not needed.
        profiles = sampled.profiles if sampled.sample.records else {}
        fields = {path: replace(profile, top_values=()) for path, profile in profiles.items()}
        return fields, sampled.sample.is_complete


def _wait_until(deadline: Deadline) -> float:
    """The end of a wait for samples, on the monotonic clock."""
    until = time.monotonic() + MAX_WAIT_SECONDS
    return until if deadline.expires_at is None else min(until, deadline.expires_at - _ANSWER_SECONDS)


def _result(future: "Future[Fields]", until: float) -> Fields:
    """The fields; none if they cannot be read in time."""
    try:
        return future.result(timeout=max(until - time.monotonic(), 0.0))
    except (AudienceError, TimeoutError):
        return {}
