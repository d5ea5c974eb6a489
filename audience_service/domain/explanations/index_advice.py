"""Which index would make a filter fast, and whether it would.

The rules: an index that is there already is not advised again; what no index can serve gets none; nor what matches so
many records that reading them through an index costs as much as reading all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from audience_service.domain.explanations.index_candidates import Columns, Share, candidates, choose
from audience_service.domain.explanations.plan import ExistingIndex, PlanKind, QueryPlan
from audience_service.domain.fields.profile import FieldProfile
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.nodes import And, Or, Related, conjuncts, joins
from audience_service.domain.filters.resolve import IN_USE

BROAD = 0.2
"""The share of the org's records from which on an index is of no use."""
_NEAR_ONE, _FEW = 2.0, 100
"""An index serves a filter well that reads so many documents for each match, or so few in all."""
_MOST_ORS = 5

_UNUSABLE = (
    "no index can serve it: negations, null, patterns that may begin anywhere, $exists, $size, $type, $mod, bits and"
    " $expr are decided by reading each record"
)


@dataclass(frozen=True, slots=True)
class IndexAdvice:
    """An index on the records of a datatype, by its fields in order; without fields there is none to advise."""

    datatype: str
    fields: tuple[str, ...]
    helps: bool
    why: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What advice rests on. `share` estimates from `sampled` records, which are all that there are if `whole`.

    `indexes` are those there are, by datatype.
    """

    plan: QueryPlan
    indexes: Mapping[str, Sequence[ExistingIndex]]
    profiles: Mapping[str, FieldProfile]
    share: Share
    sampled: int
    whole: bool = False


def advise(population: CompiledFilter, evidence: Evidence) -> IndexAdvice:
    """The one index that would do most for a filter, or why none would."""
    return _of_joins(population, evidence) or _Adviser(population, evidence).advice()


def _of_joins(population: CompiledFilter, evidence: Evidence) -> IndexAdvice | None:
    """A look into another collection without an index reads it whole, for each record: nothing else counts as much.

    Also where this plan has no look: checks of some records and watches have them.
    """
    for join in joins(population.joined) if population.joined else ():
        if isinstance(join, Related) and not any(
            index.fields[0] == join.foreign for index in evidence.indexes.get(join.datatype, ())
        ):
            why = (
                f"for each {population.datatype} where these are few, as in checks and watches, the {join.datatype}"
                f" records are searched for {join.foreign}, which no index of theirs begins with"
            )
            return IndexAdvice(join.datatype, tuple(dict.fromkeys((join.foreign, "sk"))), helps=True, why=why)
    return None


class _Adviser:
    def __init__(self, population: CompiledFilter, evidence: Evidence) -> None:
        self._datatype = population.datatype
        self._evidence = evidence
        self._indexes = evidence.indexes.get(population.datatype, ())
        self._plain = [
            node for node in conjuncts(population.node) if not joins(node) and node is not IN_USE and node != And(())
        ]

    def advice(self) -> IndexAdvice:
        if served := self._served_well():
            return served
        if not self._plain:
            return self._none("it has no condition on the records' own fields: all of the org's are read")
        columns = choose(candidates(self._plain, self._evidence.profiles), self._evidence.share)
        share = self._share(columns) if columns else 1.0
        if columns and share <= BROAD:
            return self._of_columns(columns, share)
        alternatives = [node for node in self._plain if isinstance(node, Or)][:_MOST_ORS]
        of_ors = [self._of_alternatives(node) for node in alternatives]
        if useful := [advice for advice in of_ors if advice.helps]:
            return useful[0]
        if columns:
            return IndexAdvice(self._datatype, columns.fields, helps=False, why=self._too_broad(columns, share))
        return of_ors[0] if of_ors else self._none(_UNUSABLE)

    def _served_well(self) -> IndexAdvice | None:
        plan = self._evidence.plan
        if plan.kind is PlanKind.SCAN or plan.joins or plan.figures is None:
            return None
        figures = plan.figures
        if figures.per_match > _NEAR_ONE and figures.documents_examined > _FEW:
            return None
        why = f"the index {plan.index} serves it: {figures.documents_examined:,} documents read for"
        fields = next((index.fields for index in self._indexes if index.name == plan.index), ())
        return IndexAdvice(self._datatype, fields, helps=False, why=f"{why} {figures.matched or 0:,} matches")

    def _of_columns(self, columns: Columns, share: float) -> IndexAdvice:
        if index := self._serving(columns):
            scans = self._evidence.plan.kind is PlanKind.SCAN
            why = f"the index {index.name} is there already" + (
                "; the database does not use it, as it may not where reading all takes no longer" if scans else ""
            )
            return IndexAdvice(self._datatype, index.fields, helps=False, why=why)
        why = f"{self._shown(share)} of the org's records match {_named(columns)}; the index leads to these alone"
        return IndexAdvice(self._datatype, columns.fields, helps=True, why=why + self._now())

    def _of_alternatives(self, node: Or) -> IndexAdvice:
        """An $or is served where each of its alternatives is."""
        chosen = [
            choose(candidates(conjuncts(child), self._evidence.profiles), self._evidence.share)
            for child in node.children
            if not joins(child)
        ]
        columns = [branch for branch in chosen if branch]
        if len(columns) < len(node.children):
            return self._none("an alternative of $or can use no index, so that each record is read for it")
        [share] = self._evidence.share([Or(tuple(branch.node for branch in columns))])
        if share > BROAD:
            why = f"{self._shown(share)} of the org's records match the alternatives of $or: {_AS_MUCH}"
            return self._none(why)
        missing = {branch.fields: branch for branch in columns if not self._serving(branch)}
        if not missing:
            return self._none("each alternative of $or has an index already")
        others = len(missing) - 1
        why = (
            f"{self._shown(share)} of the org's records match the alternatives of $or, each of which needs an index;"
            f" {others or 'no'} more {'is' if others == 1 else 'are'} missing beside this one"
        )
        return IndexAdvice(self._datatype, next(iter(missing)), helps=True, why=why + self._now())

    def _serving(self, columns: Columns) -> ExistingIndex | None:
        return next((index for index in self._indexes if columns.served_by(index.fields)), None)

    def _share(self, columns: Columns) -> float:
        return self._evidence.share([columns.node])[0]

    def _too_broad(self, columns: Columns, share: float) -> str:
        return f"{self._shown(share)} of the org's records match {_named(columns)}: {_AS_MUCH}"

    def _shown(self, share: float) -> str:
        sampled = self._evidence.sampled
        if self._evidence.whole:
            return f"{share * sampled:,.0f} in {sampled:,}"
        if not share:
            return f"fewer than 1 in {max(sampled, 1):,}"
        return f"about {share * 100:.2g} %"

    def _now(self) -> str:
        figures = self._evidence.plan.figures
        if figures is None:
            return ""
        return f"; now {figures.documents_examined:,} documents are read for {figures.matched or 0:,} matches"

    def _none(self, why: str) -> IndexAdvice:
        return IndexAdvice(self._datatype, (), helps=False, why=why)


_AS_MUCH = f"past {BROAD * 100:.0f} %, reading them through an index costs as much as reading all"


def _named(columns: Columns) -> str:
    return " and ".join(candidate.path for candidate in columns.candidates)
