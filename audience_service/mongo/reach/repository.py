"""Populations in parts: the SliceRepository on MongoDB; the protocol states what each method promises."""

from collections.abc import Sequence
from typing import Any

from pymongo.database import Database

from audience_service.domain.audiences.key_sample import KeySample
from audience_service.domain.core.context import Deadline
from audience_service.domain.core.record import Record
from audience_service.domain.filters.filter import Document
from audience_service.domain.filters.population import Population
from audience_service.mongo.query.joins import Stages
from audience_service.mongo.query.key_sampler import KeySampler
from audience_service.mongo.query.pipeline import (
    build_pipeline,
    execute,
    key_range_condition,
    prefetch_addresses,
    with_prefetched_joins,
)


class MongoSlices:
    """Reads parts by a range of sk, or by some sk, on the index that the tenant scope rests on."""

    def __init__(self, database: Database[dict[str, Any]], key_sampler: KeySampler) -> None:
        self._database = database
        self._key_sampler = key_sampler

    def key_sample(self, org: str, population: Population, deadline: Deadline) -> KeySample:
        """As read lately, or now."""
        return self._key_sampler.get(org, population, deadline)

    def with_prefetched_addresses(self, org: str, population: Population, deadline: Deadline) -> Population:
        """With the addresses in the filter, or marked as looked up."""
        return prefetch_addresses(self._database, org, population, deadline)

    def with_prefetched_joins(self, org: str, population: Population, deadline: Deadline) -> Population:
        """Its related records read into it."""
        return with_prefetched_joins(self._database, org, population, deadline)

    def filter_keys(self, org: str, population: Population, keys: Sequence[str], deadline: Deadline) -> Sequence[str]:
        """By $in, each key a look into the index."""
        stages: Stages = [{"$project": {"_id": 0, "sk": 1}}]
        return [found["sk"] for found in self._run(org, population, {"sk": {"$in": list(keys)}}, stages, deadline)]

    def count_range(self, org: str, population: Population, after: str, until: str, deadline: Deadline) -> int:
        """By the same stages as the whole count."""
        answer = self._run(org, population, key_range_condition(after, until), [{"$count": "n"}], deadline)
        return int(answer[0]["n"]) if answer else 0

    def first_in_range(
        self, org: str, population: Population, after: str, until: str, deadline: Deadline
    ) -> Record | None:
        """The first that the database comes upon."""
        pipeline = build_pipeline(
            self._database, org, population, deadline, key_range_condition(after, until), force_lookup=True
        )
        found = execute(self._database, pipeline, pipeline.first_stages(), deadline)
        return found[0] if found else None

    def _run(
        self, org: str, population: Population, key_range: Document, final_stages: Stages, deadline: Deadline
    ) -> list[dict[str, Any]]:
        pipeline = build_pipeline(self._database, org, population, deadline, key_range, force_lookup=True)
        return execute(self._database, pipeline, [*pipeline.stages(), *final_stages], deadline)
