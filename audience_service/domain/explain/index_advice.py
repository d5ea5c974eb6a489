"""Index advice: which index would make a filter fast, and whether it would.

For example, the filter {"country": "JP", "score": {"$gte": 90}, "tags": {"$ne": "vip"}} is advised as follows:

    candidates     data.country  equality, 6 % of the org's records match
                   data.score    range, 4 % match
                   data.tags     none: no index serves a negation
    fields         data.country, data.score, sk
    share          0.2 % of the records match both candidates, below BROAD_SHARE (20 %)
    advice         create the index, unless an existing index has these fields

1. A $related join without an index on the related records comes first: the join costs more than any other condition.
2. A filter that an index serves already gets no advice.
3. An existing index is named and not advised again.
4. If too many records match the best index, an $or may be served by one index for each of its alternatives.
5. Otherwise the advice is not useful, and its reason says why.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from audience_service.domain.explain.index_candidates import IndexColumns, MatchShares, candidates, choose
from audience_service.domain.explain.query_plan import ExistingIndex, PlanKind, QueryPlan
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.ast import And, Or, Related, conjuncts, joins
from audience_service.domain.filters.audience_inlining import NOT_ARCHIVED
from audience_service.domain.filters.field_profile import FieldProfile

BROAD_SHARE = 0.2
"""The share of the org's records above which an index does not help."""
_MAX_DOCUMENTS_PER_MATCH, _FEW_DOCUMENTS = 2.0, 100
"""An index serves a filter that examines at most this many documents for each match, or in total."""
_MAX_ORS = 5

_UNINDEXABLE = (
    "no index can serve it: the database reads each record to decide negations, null, patterns without an anchor,"
    " $exists, $size, $type, $mod, bits and $expr"
)


@dataclass(frozen=True, slots=True)
class IndexAdvice:
    """An index on the records of a datatype, by its fields in order; no fields if no index is advised."""

    datatype: str
    fields: tuple[str, ...]
    useful: bool
    reason: str


@dataclass(frozen=True, slots=True)
class IndexEvidence:
    """The facts that advice is based on.

    `match_shares` estimates from `sample_size` records, which are all of the org's if `is_complete`. `indexes` are the
    existing indexes by datatype.
    """

    plan: QueryPlan
    indexes: Mapping[str, Sequence[ExistingIndex]]
    profiles: Mapping[str, FieldProfile]
    match_shares: MatchShares
    sample_size: int
    is_complete: bool = False


def advise(population: CompiledFilter, evidence: IndexEvidence) -> IndexAdvice:
    """The index that would speed a filter up most, or the reason why no index would."""
    return _advise_on_joins(population, evidence) or _Adviser(population, evidence).advise()


def _advise_on_joins(population: CompiledFilter, evidence: IndexEvidence) -> IndexAdvice | None:
    """The index for the first $related join that has none: without it each lookup scans the related collection.

    The advice holds even if this plan has no lookup, since checks and watches use lookups for the same filter.
    """
    found = [join for join in joins(population.joins) if isinstance(join, Related)] if population.joins else []
    for join in (step for related in found for step in related.steps):
        if not any(index.fields[0] == join.foreign for index in evidence.indexes.get(join.datatype, ())):
            reason = (
                f"no index on {join.datatype} starts with {join.foreign}, so each lookup scans all {join.datatype}"
                f" records; checks and watches do one lookup for each {population.datatype}"
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
            return self._no_advice("it has no condition on the records' own fields, so the query reads all records")
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
        reason = f"the index {plan.index} serves it: the query examines {stats.documents_examined:,} documents for"
        fields = next((index.fields for index in self._indexes if index.name == plan.index), ())
        return IndexAdvice(self._datatype, fields, useful=False, reason=f"{reason} {stats.matched or 0:,} matches")

    def _advise_columns(self, columns: IndexColumns, share: float) -> IndexAdvice:
        if index := self._existing_index(columns):
            scans = self._evidence.plan.kind is PlanKind.SCAN
            reason = f"the index {index.name} exists already" + (
                "; the database does not use it, probably because a scan takes no longer" if scans else ""
            )
            return IndexAdvice(self._datatype, index.fields, useful=False, reason=reason)
        share_text = self._format_share(share)
        reason = f"{share_text} of the org's records match {_format_fields(columns)}; the index finds only these"
        return IndexAdvice(self._datatype, columns.fields, useful=True, reason=reason + self._current_cost())

    def _advise_alternatives(self, node: Or) -> IndexAdvice:
        """The first missing index of an $or: indexes serve an $or only if each alternative has one."""
        chosen = [
            choose(candidates(conjuncts(child), self._evidence.profiles), self._evidence.match_shares)
            for child in node.children
            if not joins(child)
        ]
        columns = [branch for branch in chosen if branch]
        if len(columns) < len(node.children):
            return self._no_advice("an alternative of $or can use no index, so the query reads each record")
        [share] = self._evidence.match_shares([Or(tuple(branch.node for branch in columns))])
        if share > BROAD_SHARE:
            reason = f"{self._format_share(share)} of the org's records match the alternatives of $or: {_TOO_BROAD}"
            return self._no_advice(reason)
        missing = {branch.fields: branch for branch in columns if not self._existing_index(branch)}
        if not missing:
            return self._no_advice("each alternative of $or has an index already")
        others = len(missing) - 1
        reason = (
            f"{self._format_share(share)} of the org's records match the alternatives of $or; each alternative needs an"
            f" index, and {others or 'no'} other {'index is' if others == 1 else 'indexes are'} missing"
        )
        return IndexAdvice(self._datatype, next(iter(missing)), useful=True, reason=reason + self._current_cost())

    def _existing_index(self, columns: IndexColumns) -> ExistingIndex | None:
        return next((index for index in self._indexes if columns.served_by(index.fields)), None)

    def _match_share(self, columns: IndexColumns) -> float:
        return self._evidence.match_shares([columns.node])[0]

    def _too_broad_reason(self, columns: IndexColumns, share: float) -> str:
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
        return f"; now the query examines {stats.documents_examined:,} documents for {stats.matched or 0:,} matches"

    def _no_advice(self, reason: str) -> IndexAdvice:
        return IndexAdvice(self._datatype, (), useful=False, reason=reason)


_TOO_BROAD = f"above {BROAD_SHARE * 100:.0f} %, an index costs as much as a scan of all records"


def _format_fields(columns: IndexColumns) -> str:
    return " and ".join(candidate.path for candidate in columns.candidates)
