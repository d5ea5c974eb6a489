"""The use cases on lookalikes: planned, made and refreshed, and their models opened.

The record of a lookalike keeps its model beside what names its list, so that both are published by one write.
"""

import dataclasses
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from audience_service.domain.audiences.audience import NamedAudience
from audience_service.domain.audiences.audiences import Audiences
from audience_service.domain.caller import Call, Deadline
from audience_service.domain.clock import now
from audience_service.domain.creation import CreationState, new_rows_id
from audience_service.domain.custom.audience import CUSTOM_PREFIX, PLACE, CustomAudience, LookalikeSpec
from audience_service.domain.custom.errors import NotALookalike
from audience_service.domain.custom.ports import CustomAudienceRepository
from audience_service.domain.errors import AudienceNotFound, InvalidArgument, InvalidFilter, UnusableAudience
from audience_service.domain.fields.survey import survey
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.sets import as_filter, difference, intersection
from audience_service.domain.jobs import Report
from audience_service.domain.located import located
from audience_service.domain.lookalikes.curve import auc, curve, positive, score_at, without
from audience_service.domain.lookalikes.fields import LikenessField, protected_among
from audience_service.domain.lookalikes.model import LookalikeModel, bounds
from audience_service.domain.lookalikes.modelling import Learnt, check_seed, learn
from audience_service.domain.lookalikes.ports import LookalikeRepository
from audience_service.domain.lookalikes.record import read_model, write_model
from audience_service.domain.lookalikes.spec import check_spec, everyone_of, fields_of, size_of, source_fields
from audience_service.domain.lookalikes.tally import Scores, SeedScores
from audience_service.domain.ports import MemberRepository, SampleRepository

_MODEL = "model"
_STARTED, _TRAINED, _SCORED, _SEED_SCORED, _WRITTEN = 5, 55, 75, 80, 95
"""The progress after each step, in per cent, by about how long the steps take."""
_SPARE = timedelta(minutes=1)
"""Rows are swept so much later than the last command can end that writes them."""


class Lookalikes:
    """Models an org's lookalikes. Values that fewer than `least` have are not told by themselves."""

    def __init__(
        self,
        customs: CustomAudienceRepository,
        audiences: Audiences,
        repository: LookalikeRepository,
        members: MemberRepository,
        samples: SampleRepository,
        least: int,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._customs = customs
        self._audiences = audiences
        self._repository = repository
        self._members = members
        self._samples = samples
        self._least = least
        self._clock = clock

    def plan(self, call: Call, drafted: CustomAudience) -> CustomAudience:
        """The Plan of a lookalike: its spec checked, its datatype that of its source, and its seed counted.

        Raises InvalidArgument, AudienceNotFound, UnusableAudience, SeedTooSmall.
        """
        spec = check_spec(_spec(drafted))
        source = self._audiences.named(call, spec.source_audience_id)
        datatype = source.population.datatype
        if drafted.datatype not in ("", datatype):
            raise InvalidArgument.at(f"{PLACE}.datatype", f"is {datatype!r}, as the source's is; leave it away")
        with located(f"{PLACE}.lookalike"):
            fields_of(spec, source.population)
        everyone = self._audiences.compile(call, everyone_of(datatype, spec))
        seed = intersection(everyone, as_filter(source.population))
        check_seed(self._members.count(call.org, seed, call.deadline))
        return dataclasses.replace(drafted, datatype=datatype, spec=spec)

    def check(self, call: Call, audience: CustomAudience) -> None:
        """Raise what would make `refresh` fail whatever the records are: UnusableAudience, UnsupportedByStore."""
        self._repository.check_supported()
        spec = _spec(audience)
        source = self._source(call, audience, spec)
        _fields(source, spec)
        self._candidates(call, audience, spec, source)

    def model(self, call: Call, audience_id: str) -> tuple[str, LookalikeModel]:
        """The audience's id and the model that its members were chosen by. Raises AudienceNotFound, NotALookalike."""
        if not audience_id.startswith(CUSTOM_PREFIX):
            raise AudienceNotFound.of(audience_id)
        found = self._customs.get(call.org, audience_id, call.deadline)
        if not isinstance(found.spec, LookalikeSpec):
            raise NotALookalike.of(found.type)
        if found.creation_state is not CreationState.READY:
            raise UnusableAudience(
                f"the lookalike is {found.creation_state} and has no model yet",
                metadata={"id": found.id, "creation_state": found.creation_state.value},
            )
        return found.id, read_model(found.published[_MODEL])

    def refresh(self, call: Call, audience: CustomAudience, report: Report) -> CustomAudience:
        """The Refresh of a lookalike: modelled and scored anew, list and model published by one write.

        Raises UnusableAudience (also where the source is no longer there), SeedTooSmall, StaleVersion, OutOfTime.
        """
        spec, org, deadline = _spec(audience), call.org, call.deadline
        source = self._source(call, audience, spec)
        fields = _fields(source, spec)
        everyone, chosen = self._candidates(call, audience, spec, source)
        created = self._clock()
        seed = source.population
        report(_STARTED)
        today = _end_of_day(created)
        learnt = learn(self._repository, org, seed, everyone, fields, today, self._least, deadline, report)
        report(_TRAINED)
        all_scores = self._repository.scores(org, everyone, learnt.weighed, deadline)
        report(_SCORED)
        seed_scores = self._repository.seed_scores(org, seed, everyone, learnt.weighed, deadline)
        report(_SEED_SCORED)
        baseline = without(all_scores, seed_scores.all)
        candidates = all_scores if spec.include_source else baseline
        most = min(size_of(spec, learnt.survey.size), positive(candidates))
        cutoff = score_at(candidates, most) if most else 0
        records = self._samples.sample(org, audience.datatype, deadline).records
        model = dataclasses.replace(
            _model(learnt, candidates, baseline, seed_scores),
            version=_version(audience.published) + 1,
            create_time=created,
            protected_fields=protected_among(survey(records).profiles, fields),
            source_fields=source_fields(spec, seed),
            cutoff_score=cutoff,
        )
        rows_id = new_rows_id(audience.id)
        self._customs.reserve(org, audience.id, rows_id, _last_write(deadline), deadline)
        if most:
            self._repository.write(org, chosen, learnt.weighed, rows_id, cutoff, most, deadline)
        report(_WRITTEN)
        published = {_MODEL: write_model(model)}
        return self._customs.publish(org, audience, rows_id, published, deadline, ends_work=audience.is_working)

    def _source(self, call: Call, audience: CustomAudience, spec: LookalikeSpec) -> NamedAudience:
        try:
            source = self._audiences.named(call, spec.source_audience_id)
        except AudienceNotFound as error:
            raise UnusableAudience(
                "the lookalike's source is no longer there; its list stays as it is",
                metadata={"id": spec.source_audience_id},
            ) from error
        if source.population.datatype != audience.datatype:
            raise UnusableAudience(
                f"the lookalike's source is of {source.population.datatype!r} now, the lookalike of"
                f" {audience.datatype!r}; its list stays as it is",
                metadata={"id": spec.source_audience_id},
            )
        return source

    def _candidates(
        self, call: Call, audience: CustomAudience, spec: LookalikeSpec, source: NamedAudience
    ) -> tuple[CompiledFilter, CompiledFilter]:
        """All records that are compared, and those of them that can become members."""
        everyone = self._audiences.compile(call, everyone_of(audience.datatype, spec))
        return everyone, everyone if spec.include_source else self._without(everyone, source)

    def _without(self, everyone: CompiledFilter, source: NamedAudience) -> CompiledFilter:
        left = difference(everyone, as_filter(source.population))
        try:
            self._audiences.check(left)
        except InvalidFilter as error:
            raise UnusableAudience(
                "the source's filter and the countries are too large together", metadata={"id": source.id}
            ) from error
        return left


def _spec(audience: CustomAudience) -> LookalikeSpec:
    if not isinstance(audience.spec, LookalikeSpec):
        raise NotALookalike.of(audience.type)
    return audience.spec


def _fields(source: NamedAudience, spec: LookalikeSpec) -> tuple[LikenessField, ...]:
    try:
        return fields_of(spec, source.population)
    except InvalidArgument as error:
        raise UnusableAudience(
            "the source's filter asks about every field now that likeness is told by; name others in `fields`",
            metadata={"id": source.id},
        ) from error


def _version(published: Mapping[str, object]) -> int:
    """The version of the model that was published, 0 where there is none."""
    model = published.get(_MODEL)
    return int(model["version"]) if isinstance(model, Mapping) else 0


def _model(learnt: Learnt, candidates: Scores, baseline: Scores, seed: SeedScores) -> LookalikeModel:
    lowest, highest = bounds(learnt.fields)
    return LookalikeModel(
        version=0,
        create_time=learnt.survey.moment,
        seed_count=learnt.tally.size,
        held_out_count=learnt.tally.size - learnt.tally.learnt,
        baseline_count=max(learnt.survey.size - learnt.tally.size, 0),
        fields=learnt.fields,
        curve=curve(candidates, learnt.survey.size, seed.held_out, lowest, highest),
        auc=auc(seed.held_out, baseline),
        protected_fields=(),
        source_fields=(),
        cutoff_score=0,
    )


def _end_of_day(moment: datetime) -> datetime:
    """The last second of the day in UTC: what is refreshed twice on a day has its dates in the same bands."""
    return moment.replace(hour=23, minute=59, second=59, microsecond=0)


def _last_write(deadline: Deadline) -> datetime:
    """When no command can be at work any more that the deadline holds."""
    return now() + timedelta(seconds=deadline.remaining() or 0) + _SPARE
