"""Slices of populations: key ranges and sets of keys."""

from collections.abc import Sequence
from typing import Any

from pymongo.database import Database

from audience_service.domain.audiences.key_sample import KeySample
from audience_service.domain.core.context import Deadline
from audience_service.domain.core.record import Record
from audience_service.domain.filters.filter import Document
from audience_service.domain.filters.population import Population
from audience_service.mongo.core.scope import TenantScope
from audience_service.mongo.query.key_sampler import KeySampler
from audience_service.mongo.query.pipeline import (
    Pipeline,
    build_pipeline,
    count,
    execute,
    key_range_condition,
    prefetch_addresses,
    with_prefetched_joins,
)


class MongoKeyRanges:
    """The KeyRangeRepository on MongoDB. It reads by ranges or sets of sk, on the index of the tenant scope."""

    def __init__(self, database: Database[dict[str, Any]], scope: TenantScope, key_sampler: KeySampler) -> None:
        self._database = database
        self._scope = scope
        self._key_sampler = key_sampler

    def key_sample(self, org: str, population: Population, deadline: Deadline) -> KeySample:
        """Return the cached sample, or read it."""
        return self._key_sampler.get(org, population, deadline)

    def with_prefetched_addresses(self, org: str, population: Population, deadline: Deadline) -> Population:
        """Inline the suppressed addresses, or mark them for lookup."""
        return prefetch_addresses(self._database, self._scope, org, population, deadline)

    def with_prefetched_joins(self, org: str, population: Population, deadline: Deadline) -> Population:
        """Prefetch the related records."""
        return with_prefetched_joins(self._database, self._scope, org, population, deadline)

    def filter_keys(self, org: str, population: Population, keys: Sequence[str], deadline: Deadline) -> Sequence[str]:
        """Find the keys with $in, one index seek each."""
        pipeline = self._pipeline(org, population, {"sk": {"$in": list(keys)}}, deadline)
        stages = [*pipeline.stages(), {"$project": {"_id": 0, "sk": 1}}]
        return [member["sk"] for member in execute(self._database, pipeline, stages, deadline)]

    def count_range(self, org: str, population: Population, after: str, until: str, deadline: Deadline) -> int:
        """Count with the stages of the complete count."""
        pipeline = self._pipeline(org, population, key_range_condition(after, until), deadline)
        return count(self._database, pipeline, deadline)

    def first_in_range(
        self, org: str, population: Population, after: str, until: str, deadline: Deadline
    ) -> Record | None:
        """Return the first member that the database finds."""
        pipeline = self._pipeline(org, population, key_range_condition(after, until), deadline)
        found = execute(self._database, pipeline, pipeline.first_stages(), deadline)
        return found[0] if found else None

    def _pipeline(self, org: str, population: Population, key_range: Document, deadline: Deadline) -> Pipeline:
        return build_pipeline(self._database, self._scope, org, population, deadline, key_range, force_lookup=True)
