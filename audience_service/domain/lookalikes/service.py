"""The lookalike use cases: validation, creation and refresh of lookalikes, and their models.

The record of a lookalike stores its model next to the id of its list, so that one write publishes both.
"""

import dataclasses
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from audience_service.domain.audiences.model import ResolvedAudience
from audience_service.domain.audiences.repository import MemberRepository
from audience_service.domain.audiences.resolver import AudienceResolver
from audience_service.domain.core.clock import now
from audience_service.domain.core.context import Deadline, RequestContext
from audience_service.domain.core.error_path import prefix_error_path
from audience_service.domain.core.errors import AudienceNotFound, InvalidArgument, InvalidFilter, UnusableAudience
from audience_service.domain.core.idempotency import CreationState, new_list_version_id
from audience_service.domain.core.jobs import Report
from audience_service.domain.core.result_warning import ResultWarning
from audience_service.domain.custom_audiences.errors import NotALookalike
from audience_service.domain.custom_audiences.model import CUSTOM_PREFIX, FIELD_PATH, CustomAudience, LookalikeSpec
from audience_service.domain.custom_audiences.repository import CustomAudienceRepository
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.set_operations import difference, intersection, to_filter
from audience_service.domain.lookalikes.counts import Scores, SeedScores
from audience_service.domain.lookalikes.curve import auc, count_positive, curve, score_at, subtract
from audience_service.domain.lookalikes.features import Feature, unused_protected_paths
from audience_service.domain.lookalikes.model import LookalikeModel, score_range
from audience_service.domain.lookalikes.model_document import read_model, write_model
from audience_service.domain.lookalikes.quality import model_warnings
from audience_service.domain.lookalikes.repository import LookalikeRepository
from audience_service.domain.lookalikes.spec import base_filter, check_spec, select_features, source_fields, target_size
from audience_service.domain.lookalikes.training import TrainedModel, check_seed, train
from audience_service.domain.schema.field_stats import collect
from audience_service.domain.schema.repository import SampleRepository

_MODEL = "model"
_STARTED, _TRAINED, _SCORED, _SEED_SCORED, _WRITTEN = 5, 55, 75, 80, 95
"""The progress after each step, in per cent, by the approximate duration of the steps."""
_SWEEP_MARGIN = timedelta(minutes=1)
"""The time between the end of the last command that may write rows and their cleanup."""


class Lookalikes:
    """Validates, trains and refreshes lookalikes. Values of fewer than `min_bucket_size` records are not disclosed."""

    def __init__(
        self,
        custom_audiences: CustomAudienceRepository,
        audiences: AudienceResolver,
        repository: LookalikeRepository,
        members: MemberRepository,
        samples: SampleRepository,
        min_bucket_size: int,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._custom_audiences = custom_audiences
        self._audiences = audiences
        self._repository = repository
        self._members = members
        self._samples = samples
        self._min_bucket_size = min_bucket_size
        self._clock = clock

    def validate(self, ctx: RequestContext, draft: CustomAudience) -> CustomAudience:
        """The draft with a checked spec and the source's datatype. The seed is counted to check its size.

        Raises InvalidArgument, AudienceNotFound, UnusableAudience, SeedTooSmall.
        """
        spec = check_spec(_spec(draft))
        source = self._audiences.resolve_id(ctx, spec.source_audience_id)
        datatype = source.population.datatype
        if draft.datatype not in ("", datatype):
            raise InvalidArgument.at(
                f"{FIELD_PATH}.datatype", f"differs from the source's datatype; leave it empty or set {datatype!r}"
            )
        with prefix_error_path(f"{FIELD_PATH}.lookalike"):
            select_features(spec, source.population)
        everyone = self._audiences.compile(ctx, base_filter(datatype, spec))
        seed = intersection(everyone, to_filter(source.population))
        check_seed(self._members.count(ctx.org, seed, ctx.deadline))
        return dataclasses.replace(draft, datatype=datatype, spec=spec)

    def check(self, ctx: RequestContext, audience: CustomAudience) -> None:
        """Raise UnusableAudience or UnsupportedByStore if `refresh` would fail for any records."""
        self._repository.check_supported()
        spec = _spec(audience)
        source = self._resolve_source(ctx, audience, spec)
        _select_features(source, spec)
        self._candidates(ctx, audience, spec, source)

    def model(self, ctx: RequestContext, audience_id: str) -> tuple[str, LookalikeModel, tuple[ResultWarning, ...]]:
        """The audience's id, the model that selected its members, and warnings if these mean little.

        Raises AudienceNotFound, NotALookalike; UnusableAudience unless the audience is READY.
        """
        if not audience_id.startswith(CUSTOM_PREFIX):
            raise AudienceNotFound.of(audience_id)
        found = self._custom_audiences.get(ctx.org, audience_id, ctx.deadline)
        if not isinstance(found.spec, LookalikeSpec):
            raise NotALookalike.of(found.type)
        if found.creation_state is not CreationState.READY:
            raise UnusableAudience(
                f"the lookalike is {found.creation_state} and has no model; wait until it is READY",
                metadata={"id": found.id, "creation_state": found.creation_state.value},
            )
        model = read_model(found.publication[_MODEL])
        return found.id, model, model_warnings(model)

    def refresh(self, ctx: RequestContext, audience: CustomAudience, report: Report) -> CustomAudience:
        """The lookalike with a new model and a new list, both published by one write.

        Raises UnusableAudience (also if the source is missing), SeedTooSmall, StaleVersion, OutOfTime.
        """
        spec, org, deadline = _spec(audience), ctx.org, ctx.deadline
        source = self._resolve_source(ctx, audience, spec)
        fields = _select_features(source, spec)
        everyone, candidate_filter = self._candidates(ctx, audience, spec, source)
        created_at = self._clock()
        seed = source.population
        report(_STARTED)
        as_of = _end_of_day(created_at)
        trained = train(self._repository, org, seed, everyone, fields, as_of, self._min_bucket_size, deadline, report)
        report(_TRAINED)
        all_scores = self._repository.scores(org, everyone, trained.scored_features, deadline)
        report(_SCORED)
        seed_scores = self._repository.seed_scores(org, seed, everyone, trained.scored_features, deadline)
        report(_SEED_SCORED)
        baseline = subtract(all_scores, seed_scores.all)
        candidates = all_scores if spec.include_source else baseline
        member_count = min(target_size(spec, trained.stats.size), count_positive(candidates))
        cutoff = score_at(candidates, member_count) if member_count else 0
        records = self._samples.sample(org, audience.datatype, deadline).records
        model = dataclasses.replace(
            _model(trained, candidates, baseline, seed_scores),
            version=_version(audience.publication) + 1,
            created_at=created_at,
            protected_fields=unused_protected_paths(collect(records).profiles, fields),
            source_fields=source_fields(spec, seed),
            cutoff_score=cutoff,
        )
        list_version_id = new_list_version_id(audience.id)
        self._custom_audiences.reserve(org, audience.id, list_version_id, _last_possible_write(deadline), deadline)
        if member_count:
            self._repository.write(
                org, candidate_filter, trained.scored_features, list_version_id, cutoff, member_count, deadline
            )
        report(_WRITTEN)
        published = {_MODEL: write_model(model)}
        return self._custom_audiences.publish(
            org, audience, list_version_id, published, deadline, ends_work=audience.is_working
        )

    def _resolve_source(self, ctx: RequestContext, audience: CustomAudience, spec: LookalikeSpec) -> ResolvedAudience:
        try:
            source = self._audiences.resolve_id(ctx, spec.source_audience_id)
        except AudienceNotFound as error:
            raise UnusableAudience(
                "the lookalike's source is missing; the list stays unchanged. Create one from another source",
                metadata={"id": spec.source_audience_id},
            ) from error
        if source.population.datatype != audience.datatype:
            raise UnusableAudience(
                f"the lookalike's source is of {source.population.datatype!r} now, but the lookalike is of"
                f" {audience.datatype!r}; the lookalike keeps its list",
                metadata={"id": spec.source_audience_id},
            )
        return source

    def _candidates(
        self, ctx: RequestContext, audience: CustomAudience, spec: LookalikeSpec, source: ResolvedAudience
    ) -> tuple[CompiledFilter, CompiledFilter]:
        """The filters for all records that the model compares, and for those that can become members."""
        everyone = self._audiences.compile(ctx, base_filter(audience.datatype, spec))
        return everyone, everyone if spec.include_source else self._exclude_source(everyone, source)

    def _exclude_source(self, everyone: CompiledFilter, source: ResolvedAudience) -> CompiledFilter:
        remaining = difference(everyone, to_filter(source.population))
        try:
            self._audiences.check(remaining)
        except InvalidFilter as error:
            raise UnusableAudience(
                "the source's filter and the countries are too large together; simplify the filter",
                metadata={"id": source.id},
            ) from error
        return remaining


def _spec(audience: CustomAudience) -> LookalikeSpec:
    if not isinstance(audience.spec, LookalikeSpec):
        raise NotALookalike.of(audience.type)
    return audience.spec


def _select_features(source: ResolvedAudience, spec: LookalikeSpec) -> tuple[Feature, ...]:
    try:
        return select_features(spec, source.population)
    except InvalidArgument as error:
        raise UnusableAudience(
            "the source's filter now tests every field of the lookalike; name other fields in `fields`",
            metadata={"id": source.id},
        ) from error


def _version(published: Mapping[str, object]) -> int:
    """The version of the published model; 0 if there is none."""
    model = published.get(_MODEL)
    return int(model["version"]) if isinstance(model, Mapping) else 0


def _model(trained: TrainedModel, candidates: Scores, baseline: Scores, seed: SeedScores) -> LookalikeModel:
    min_score, max_score = score_range(trained.fields)
    return LookalikeModel(
        version=0,
        created_at=trained.stats.as_of,
        seed_count=trained.seed_counts.size,
        holdout_count=trained.seed_counts.size - trained.seed_counts.training_size,
        baseline_count=max(trained.stats.size - trained.seed_counts.size, 0),
        fields=trained.fields,
        curve=curve(candidates, trained.stats.size, seed.holdout, min_score, max_score),
        auc=auc(seed.holdout, baseline),
        protected_fields=(),
        source_fields=(),
        cutoff_score=0,
    )


def _end_of_day(instant: datetime) -> datetime:
    """The last second of the day in UTC. Two refreshes on one day thus use the same bins of dates."""
    return instant.replace(hour=23, minute=59, second=59, microsecond=0)


def _last_possible_write(deadline: Deadline) -> datetime:
    """The time by which every command with this deadline has ended, with a margin."""
    return now() + timedelta(seconds=deadline.remaining() or 0) + _SWEEP_MARGIN
