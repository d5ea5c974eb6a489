"""Which index would make a filter fast, and whether it would.

The rules: an index that is there already is not advised again; what no index can serve gets none; nor what matches so
many records that reading them through an index costs as much as reading all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from audience_service.domain.explain.index_candidates import Columns, MatchShares, candidates, choose
from audience_service.domain.explain.query_plan import ExistingIndex, PlanKind, QueryPlan
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.ast import And, Or, Related, conjuncts, joins
from audience_service.domain.filters.audience_inlining import NOT_ARCHIVED
from audience_service.domain.filters.field_profile import FieldProfile

BROAD_SHARE = 0.2
"""The share of the org's records from which on an index is of no use."""
_MAX_DOCUMENTS_PER_MATCH, _FEW_DOCUMENTS = 2.0, 100
"""An index serves a filter well that reads so many documents for each match, or so few in all."""
_MAX_ORS = 5

_UNINDEXABLE = (
    "no index can serve it: negations, null, patterns that may begin anywhere, $exists, $size, $type, $mod, bits and"
    " $expr are decided by reading each record"
)


@dataclass(frozen=True, slots=True)
class IndexAdvice:
    """An index on the records of a datatype, by its fields in order; without fields there is none to advise."""

    datatype: str
    fields: tuple[str, ...]
    useful: bool
    reason: str


@dataclass(frozen=True, slots=True)
class IndexEvidence:
    """What advice rests on. `share` estimates from `sampled` records, which are all that there are if `whole`.

    `indexes` are those there are, by datatype.
    """

    plan: QueryPlan
    indexes: Mapping[str, Sequence[ExistingIndex]]
    profiles: Mapping[str, FieldProfile]
    match_shares: MatchShares
    sample_size: int
    is_complete: bool = False


def advise(population: CompiledFilter, evidence: IndexEvidence) -> IndexAdvice:
    """The one index that would do most for a filter, or why none would."""
    return _advise_on_joins(population, evidence) or _Adviser(population, evidence).advise()


def _advise_on_joins(population: CompiledFilter, evidence: IndexEvidence) -> IndexAdvice | None:
    """A look into another collection without an index reads it whole, for each record: nothing else counts as much.

    Also where this plan has no look: checks of some records and watches have them.
    """
    for join in joins(population.joins) if population.joins else ():
        if isinstance(join, Related) and not any(
            index.fields[0] == join.foreign for index in evidence.indexes.get(join.datatype, ())
        ):
            reason = (
                f"for each {population.datatype} where these are few, as in checks and watches, the {join.datatype}"
                f" records are searched for {join.foreign}, which no index of theirs begins with"
            )
            return IndexAdvice(join.datatype, tuple(dict.fromkeys((join.foreign, "sk"))), useful=True, reason=reason)
    return None


class _Adviser:
    def __init__(self, population: CompiledFilter, evidence: IndexEvidence) -> None:
        self._datatype = population.datatype
        self._evidence = evidence
        self._indexes = evidence.indexes.get(population.datatype, ())
        self._own_conditions = [
            node
            for node in conjuncts(population.node)
            if not joins(node) and node is not NOT_ARCHIVED and node != And(())
        ]

    def advise(self) -> IndexAdvice:
        if served := self._advice_if_served():
            return served
        if not self._own_conditions:
            return self._no_advice("it has no condition on the records' own fields: all of the org's are read")
        columns = choose(candidates(self._own_conditions, self._evidence.profiles), self._evidence.match_shares)
        share = self._match_share(columns) if columns else 1.0
        if columns and share <= BROAD_SHARE:
            return self._advise_columns(columns, share)
        alternatives = [node for node in self._own_conditions if isinstance(node, Or)][:_MAX_ORS]
        or_advice = [self._advise_alternatives(node) for node in alternatives]
        if useful := [advice for advice in or_advice if advice.useful]:
            return useful[0]
        if columns:
            return IndexAdvice(
                self._datatype, columns.fields, useful=False, reason=self._too_broad_reason(columns, share)
            )
        return or_advice[0] if or_advice else self._no_advice(_UNINDEXABLE)

    def _advice_if_served(self) -> IndexAdvice | None:
        plan = self._evidence.plan
        if plan.kind is PlanKind.SCAN or plan.joins or plan.stats is None:
            return None
        stats = plan.stats
        if stats.documents_per_match > _MAX_DOCUMENTS_PER_MATCH and stats.documents_examined > _FEW_DOCUMENTS:
            return None
        reason = f"the index {plan.index} serves it: {stats.documents_examined:,} documents read for"
        fields = next((index.fields for index in self._indexes if index.name == plan.index), ())
        return IndexAdvice(self._datatype, fields, useful=False, reason=f"{reason} {stats.matched or 0:,} matches")

    def _advise_columns(self, columns: Columns, share: float) -> IndexAdvice:
        if index := self._existing_index(columns):
            scans = self._evidence.plan.kind is PlanKind.SCAN
            reason = f"the index {index.name} is there already" + (
                "; the database does not use it, as it may not where reading all takes no longer" if scans else ""
            )
            return IndexAdvice(self._datatype, index.fields, useful=False, reason=reason)
        share_text = self._format_share(share)
        reason = f"{share_text} of the org's records match {_format_fields(columns)}; the index leads to these alone"
        return IndexAdvice(self._datatype, columns.fields, useful=True, reason=reason + self._current_cost())

    def _advise_alternatives(self, node: Or) -> IndexAdvice:
        """An $or is served where each of its alternatives is."""
        chosen = [
            choose(candidates(conjuncts(child), self._evidence.profiles), self._evidence.match_shares)
            for child in node.children
            if not joins(child)
        ]
        columns = [branch for branch in chosen if branch]
        if len(columns) < len(node.children):
            return self._no_advice("an alternative of $or can use no index, so that each record is read for it")
        [share] = self._evidence.match_shares([Or(tuple(branch.node for branch in columns))])
        if share > BROAD_SHARE:
            reason = f"{self._format_share(share)} of the org's records match the alternatives of $or: {_TOO_BROAD}"
            return self._no_advice(reason)
        missing = {branch.fields: branch for branch in columns if not self._existing_index(branch)}
        if not missing:
            return self._no_advice("each alternative of $or has an index already")
        others = len(missing) - 1
        reason = (
            f"{self._format_share(share)} of the org's records match the alternatives of $or, each of which needs an"
            f" index; {others or 'no'} more {'is' if others == 1 else 'are'} missing beside this one"
        )
        return IndexAdvice(self._datatype, next(iter(missing)), useful=True, reason=reason + self._current_cost())

    def _existing_index(self, columns: Columns) -> ExistingIndex | None:
        return next((index for index in self._indexes if columns.served_by(index.fields)), None)

    def _match_share(self, columns: Columns) -> float:
        return self._evidence.match_shares([columns.node])[0]

    def _too_broad_reason(self, columns: Columns, share: float) -> str:
        return f"{self._format_share(share)} of the org's records match {_format_fields(columns)}: {_TOO_BROAD}"

    def _format_share(self, share: float) -> str:
        sample_size = self._evidence.sample_size
        if self._evidence.is_complete:
            return f"{share * sample_size:,.0f} in {sample_size:,}"
        if not share:
            return f"fewer than 1 in {max(sample_size, 1):,}"
        return f"about {share * 100:.2g} %"

    def _current_cost(self) -> str:
        stats = self._evidence.plan.stats
        if stats is None:
            return ""
        return f"; now {stats.documents_examined:,} documents are read for {stats.matched or 0:,} matches"

    def _no_advice(self, reason: str) -> IndexAdvice:
        return IndexAdvice(self._datatype, (), useful=False, reason=reason)


_TOO_BROAD = f"past {BROAD_SHARE * 100:.0f} %, reading them through an index costs as much as reading all"


def _format_fields(columns: Columns) -> str:
    return " and ".join(candidate.path for candidate in columns.candidates)
