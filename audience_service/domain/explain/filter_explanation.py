"""The use case ExplainFilter: a filter's description, its query plan, and the index that would speed it up.

It runs the count by default, because the cost of a plan is known only after it has run, and callers would count next.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from audience_service.domain.audiences.model import to_response_form
from audience_service.domain.audiences.repository import MemberRepository
from audience_service.domain.audiences.resolver import AudienceResolver
from audience_service.domain.audiences.selection import AudienceSelector
from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.error_path import prefix_error_path
from audience_service.domain.explain.index_advice import IndexAdvice, IndexEvidence, advise
from audience_service.domain.explain.query_plan import QueryPlan
from audience_service.domain.explain.repository import PlanRepository
from audience_service.domain.filters import CompiledFilter, Filter, FilterCompiler, FilterWarning
from audience_service.domain.filters.ast import Condition, InAudience, Node, Related, joins
from audience_service.domain.filters.buckets import HASH_VECTOR
from audience_service.domain.filters.compiler import to_match
from audience_service.domain.filters.describe.sentence import describe
from audience_service.domain.filters.describe.values import format_count
from audience_service.domain.filters.failing_expressions import failing_records
from audience_service.domain.filters.field_usage import used_fields
from audience_service.domain.filters.fields import display_path
from audience_service.domain.filters.lint.conjunctions import all_nodes
from audience_service.domain.filters.lint.warning import LintRule
from audience_service.domain.filters.operators import BUCKET
from audience_service.domain.filters.population import Population
from audience_service.domain.schema.repository import SampleRepository
from audience_service.domain.schema.service import FieldCatalog, SampledFields

_LOOKUP_SECONDS = 100e-6
"""The usual time of one lookup of related records with an index."""


@dataclass(frozen=True, slots=True)
class FilterExplanation:
    """The explanation of a filter. `fields` are the fields that it reads, as callers write them.

    A store without query plans has neither `plan` nor `advice`.
    """

    description: str
    fields: Sequence[str]
    plan: QueryPlan | None
    advice: IndexAdvice | None
    warnings: Sequence[FilterWarning]


@dataclass(frozen=True, slots=True)
class ExplainRepositories:
    """The repositories that explanations read."""

    plans: PlanRepository
    samples: SampleRepository
    members: MemberRepository


class FilterExplainer:
    """Explains filters and saved audiences."""

    def __init__(
        self,
        repositories: ExplainRepositories,
        catalog: FieldCatalog,
        audiences: AudienceResolver,
        compiler: FilterCompiler,
    ) -> None:
        self._repositories = repositories
        self._catalog = catalog
        self._audiences = audiences
        self._compiler = compiler

    def explain(self, ctx: RequestContext, selection: AudienceSelector, *, analyze: bool) -> FilterExplanation:
        """The explanation; `analyze` also runs the query, for the plan's execution statistics.

        Raises InvalidArgument, AudienceNotFound, UnusableAudience, OutOfTime, UnsupportedByStore.
        """
        population = self._audiences.population(ctx, selection)
        plan = self._plan(ctx, population, analyze=analyze)
        if not isinstance(population, CompiledFilter):
            audience_id = selection.audience_id
            description = describe(InAudience(audience_id, "audience_id"), self._names(ctx, [audience_id]))
            reason = "the service reads a static list through the list's own index, and its records by sk"
            advice = IndexAdvice(population.datatype, (), useful=False, reason=reason)
            return FilterExplanation(description, (), plan, advice if plan else None, ())
        node = self._parse_unresolved(ctx, selection)
        audience_ids = [inner.audience_id for inner in all_nodes(node) if isinstance(inner, InAudience)]
        sampled = self._catalog.sample_fields(ctx.org, population.datatype, ctx.deadline)
        return FilterExplanation(
            describe(node, self._names(ctx, audience_ids)),
            [display_path(path) for path in used_fields(population.node)],
            plan,
            advise(population, self._evidence(ctx, population, plan, sampled)) if plan else None,
            [
                *self._warnings(ctx, node, population.datatype, sampled),
                *self._lookup_warnings(ctx, node, population, analyze=analyze),
            ],
        )

    def advise(self, ctx: RequestContext, population: CompiledFilter, plan: QueryPlan) -> IndexAdvice:
        """The index that would serve a population with this plan. Raises OutOfTime, UnsupportedByStore."""
        sampled = self._catalog.sample_fields(ctx.org, population.datatype, ctx.deadline)
        return advise(population, self._evidence(ctx, population, plan, sampled))

    def _plan(self, ctx: RequestContext, population: Population, *, analyze: bool) -> QueryPlan | None:
        plan = self._repositories.plans.plan(ctx.org, population, ctx.deadline, analyze=analyze)
        if plan is None or plan.stats is None or plan.stats.matched is not None:
            return plan
        count = self._repositories.members.count(ctx.org, population, ctx.deadline)
        return replace(plan, stats=replace(plan.stats, matched=count))

    def _parse_unresolved(self, ctx: RequestContext, selection: AudienceSelector) -> Node:
        """The filter as the caller wrote it: its audiences are not resolved."""
        with prefix_error_path("filter"):
            return self._compiler.parse(selection.filter or self._saved_filter(ctx, selection.audience_id))

    def _saved_filter(self, ctx: RequestContext, audience_id: str) -> Filter:
        """An audience's filter in the form that GetSegment returns, so that field paths match it."""
        return to_response_form(self._audiences.find(ctx, audience_id).filter)

    def _warnings(
        self, ctx: RequestContext, node: Node, datatype: str, sampled: SampledFields
    ) -> Sequence[FilterWarning]:
        """The filter's warnings. Warnings about fields need at least one sampled record."""
        related = {inner.datatype for inner in all_nodes(node) if isinstance(inner, Related)} - {datatype}
        samples = {name: self._catalog.sample_fields(ctx.org, name, ctx.deadline) for name in sorted(related)}
        samples[datatype] = sampled
        profiles = {name: found.profiles for name, found in samples.items() if found.sample.records}
        found = self._compiler.lint(node, datatype, profiles)
        for failing in failing_records(node, datatype):
            if warning := failing.warning(self._catalog.count_failing(ctx.org, failing, ctx.deadline)):
                found.append(warning)
        found += self._bucket_warnings(ctx, node)
        return [replace(warning, field_path=f"filter.{warning.field_path}") for warning in found]

    def _lookup_warnings(
        self, ctx: RequestContext, node: Node, population: CompiledFilter, *, analyze: bool
    ) -> Sequence[FilterWarning]:
        """The relations that are looked up for each record, with the number of records if `analyze`."""
        relations = [inner for inner in all_nodes(node) if isinstance(inner, Related) and inner.record_dates]
        if not relations:
            return []
        cost, records = "about 0.1 ms each with an index on the foreign field", f"each {population.datatype}"
        if analyze:
            candidates = CompiledFilter(population.datatype, population.match)
            count = self._repositories.members.count(ctx.org, candidates, ctx.deadline)
            cost = f"{cost}, so {count * _LOOKUP_SECONDS:,.1f} s in total"
            records = f"each of {format_count(count, population.datatype)}"
        text = f"reads a date of the record, so it is looked up for {records} that the plain conditions leave: {cost}"
        return [FilterWarning(f"filter.{each.field_path}", LintRule.LOOKUP_PER_RECORD, text) for each in relations]

    def _bucket_warnings(self, ctx: RequestContext, node: Node) -> Sequence[FilterWarning]:
        """The conditions on buckets, if the database hashes in another way than MongoDB."""
        buckets = [inner for inner in all_nodes(node) if isinstance(inner, Condition) and inner.operator is BUCKET]
        text, expected = HASH_VECTOR
        if not buckets or self._repositories.plans.hash_text(text, ctx.deadline) == expected:
            return []
        problem = "reads buckets that are not those of MongoDB, because this database hashes in another way"
        return [FilterWarning(condition.field_path, LintRule.BUCKETS_DIFFER, problem) for condition in buckets]

    def _names(self, ctx: RequestContext, audience_ids: Sequence[str]) -> Mapping[str, str]:
        return {audience_id: self._audiences.find(ctx, audience_id).name for audience_id in dict.fromkeys(audience_ids)}

    def _evidence(
        self, ctx: RequestContext, population: CompiledFilter, plan: QueryPlan, sampled: SampledFields
    ) -> IndexEvidence:
        plans, datatype = self._repositories.plans, population.datatype
        keys = [record["sk"] for record in sampled.sample.records]
        found = joins(population.joins) if population.joins else ()
        datatypes = {datatype, *(step.datatype for join in found if isinstance(join, Related) for step in join.steps)}

        def match_shares(nodes: Sequence[Node]) -> Sequence[float]:
            matches = [to_match(node) for node in nodes]
            counts = self._repositories.samples.count_matching(ctx.org, datatype, keys, matches, ctx.deadline)
            return [count / max(len(keys), 1) for count in counts]

        return IndexEvidence(
            plan,
            {name: plans.indexes(ctx.org, name, ctx.deadline) for name in datatypes},
            sampled.profiles,
            match_shares,
            len(keys),
            sampled.sample.is_complete,
        )
