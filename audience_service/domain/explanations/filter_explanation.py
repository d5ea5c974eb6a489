"""The use case on explanation: what a filter says in words, how the database answers it, and what would speed it up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from audience_service.domain.audiences.audience import as_shown
from audience_service.domain.audiences.audiences import Audiences
from audience_service.domain.audiences.selection import Selection
from audience_service.domain.caller import Call
from audience_service.domain.clock import now
from audience_service.domain.explanations.index_advice import Evidence, IndexAdvice, advise
from audience_service.domain.explanations.plan import QueryPlan
from audience_service.domain.fields.catalog import FieldCatalog, SampledFields
from audience_service.domain.filters import CompiledFilter, Filter, FilterCompiler, FilterWarning
from audience_service.domain.filters.compile import emit
from audience_service.domain.filters.fields import written_path
from audience_service.domain.filters.nodes import InAudience, Node, Related, joins, walk
from audience_service.domain.filters.reads import fields_read
from audience_service.domain.filters.warnings.warnings import filter_warnings
from audience_service.domain.filters.words.sentence import in_words
from audience_service.domain.located import located
from audience_service.domain.ports import MemberRepository, PlanRepository, Population, SampleRepository


@dataclass(frozen=True, slots=True)
class FilterExplanation:
    """What is to be said of a filter. `fields` are those it reads, as callers write them."""

    words: str
    fields: Sequence[str]
    plan: QueryPlan
    advice: IndexAdvice
    warnings: Sequence[FilterWarning]


@dataclass(frozen=True, slots=True)
class Repositories:
    """What explanation asks of storage."""

    plans: PlanRepository
    samples: SampleRepository
    members: MemberRepository


class FilterExplanations:
    """Explains filters, saved or not."""

    def __init__(
        self,
        repositories: Repositories,
        catalog: FieldCatalog,
        audiences: Audiences,
        compiler: FilterCompiler,
    ) -> None:
        self._repositories = repositories
        self._catalog = catalog
        self._audiences = audiences
        self._compiler = compiler

    def explain(self, call: Call, selection: Selection, *, run: bool) -> FilterExplanation:
        """All of it; `run` counts the filter for the plan's figures.

        Raises InvalidArgument, AudienceNotFound, UnusableAudience, OutOfTime, UnsupportedByStore.
        """
        population = self._audiences.population(call, selection)
        plan = self._plan(call, population, run=run)
        if not isinstance(population, CompiledFilter):
            audience_id = selection.audience_id
            words = in_words(InAudience(audience_id, "audience_id"), self._names(call, [audience_id]))
            why = "a static list is read through its own index, and its records by their sk"
            return FilterExplanation(words, (), plan, IndexAdvice(population.datatype, (), helps=False, why=why), ())
        node = self._written(call, selection)
        inside = [inner.audience_id for inner in walk(node) if isinstance(inner, InAudience)]
        sampled = self._catalog.sampled(call, population.datatype)
        return FilterExplanation(
            in_words(node, self._names(call, inside)),
            [written_path(path) for path in fields_read(population.node)],
            plan,
            advise(population, self._evidence(call, population, plan, sampled)),
            self._warnings(node, population.datatype, sampled),
        )

    def _plan(self, call: Call, population: Population, *, run: bool) -> QueryPlan:
        plan = self._repositories.plans.plan(call.org, population, call.deadline, run=run)
        if plan.figures is None or plan.figures.matched is not None:
            return plan
        count = self._repositories.members.count(call.org, population, call.deadline)
        return replace(plan, figures=replace(plan.figures, matched=count))

    def _written(self, call: Call, selection: Selection) -> Node:
        """The filter as it is written, audiences in it not looked up."""
        with located("filter"):
            return self._compiler.parse(selection.filter or self._saved(call, selection.audience_id))

    def _saved(self, call: Call, audience_id: str) -> Filter:
        """An audience's filter, in the arm that GetSegment shows it in, from which places are named."""
        return as_shown(self._audiences.find(call, audience_id).filter)

    @staticmethod
    def _warnings(node: Node, datatype: str, sampled: SampledFields) -> Sequence[FilterWarning]:
        """Those that rest on fields are given where there are records to go by."""
        profiles = sampled.profiles if sampled.sample.records else None
        found = filter_warnings(node, now(), profiles, datatype=datatype)
        return [replace(warning, place=f"filter.{warning.place}") for warning in found]

    def _names(self, call: Call, audience_ids: Sequence[str]) -> Mapping[str, str]:
        return {
            audience_id: self._audiences.find(call, audience_id).name for audience_id in dict.fromkeys(audience_ids)
        }

    def _evidence(self, call: Call, population: CompiledFilter, plan: QueryPlan, sampled: SampledFields) -> Evidence:
        plans, datatype = self._repositories.plans, population.datatype
        keys = [record["sk"] for record in sampled.sample.records]
        found = joins(population.joined) if population.joined else ()
        datatypes = {datatype, *(join.datatype for join in found if isinstance(join, Related))}

        def share(nodes: Sequence[Node]) -> Sequence[float]:
            matches = [emit(node) for node in nodes]
            counts = self._repositories.samples.count_among(call.org, datatype, keys, matches, call.deadline)
            return [count / max(len(keys), 1) for count in counts]

        return Evidence(
            plan,
            {name: plans.indexes(call.org, name, call.deadline) for name in datatypes},
            sampled.profiles,
            share,
            len(keys),
            sampled.sample.whole,
        )
