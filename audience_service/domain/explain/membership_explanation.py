"""The use case ExplainMembership: which conditions of an audience a contact meets, and when time changes that."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from audience_service.domain.audiences.resolver import AudienceResolver
from audience_service.domain.audiences.selection import AudienceSelector
from audience_service.domain.core.clock import now
from audience_service.domain.core.context import RequestContext, Scope
from audience_service.domain.core.errors import InvalidFilter
from audience_service.domain.core.record import Record
from audience_service.domain.explain.change_forecast import ChangeForecaster
from audience_service.domain.explain.condition_tree import ConditionTree, ConditionTreeBuilder
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.ast import Condition, Node, Related
from audience_service.domain.filters.compiler import compile_node
from audience_service.domain.filters.describe.sentence import describe
from audience_service.domain.filters.rebase_dates import (
    evaluate_as_of,
    record_timezones,
    replace_zoned_dates,
    zoned_dates,
)
from audience_service.domain.filters.record_timezones import ZonedDate
from audience_service.domain.filters.relative_dates import ResolvedDate
from audience_service.domain.filters.set_operations import to_filter
from audience_service.domain.filters.zoned_operands import ZonedOperand
from audience_service.domain.membership.checks import contact_not_found
from audience_service.domain.membership.repository import Measurement, MembershipCheckRepository
from audience_service.domain.schema.projection import MISSING, get_path

_INITIAL_TIMES = 8
"""How many forecast times of a condition the first query evaluates. Each further query evaluates twice as many."""


@dataclass(frozen=True, slots=True)
class EvaluatedCondition:
    """A condition and whether the contact meets it.

    `error` is the reason why the condition cannot be evaluated on its own, empty if it can. `value` is the record's
    value, or what a relation with a test measures; MISSING if there is none. `next_change_time` is the next time at
    which `matched` changes although the record does not; None if that is not within ten years, or unknown.
    """

    condition: ConditionTree
    matched: bool
    error: str
    value: Any
    next_change_time: datetime | None
    children: tuple["EvaluatedCondition", ...]


@dataclass(frozen=True, slots=True)
class MembershipExplanation:
    """Why a contact is a member or not. `next_change_unknown`: the time of the root's next change is unknown.

    `has_values` is false if the caller lacks the scope that the record's values need.
    """

    condition: EvaluatedCondition
    next_change_unknown: bool
    has_values: bool
    read_at: datetime


class MembershipExplainer:
    """Explains memberships. The database evaluates every condition now, and at each forecast time."""

    def __init__(self, checks: MembershipCheckRepository, audiences: AudienceResolver) -> None:
        self._checks = checks
        self._audiences = audiences

    def explain(self, ctx: RequestContext, selection: AudienceSelector, contact_id: str) -> MembershipExplanation:
        """Why a contact is a member of the selected audience, or is not.

        Queries: one for the audience, one for each level of audiences inside its filter, and one that evaluates all
        conditions. Conditions that depend on time need one more, or several if they have many forecast times. A
        relation with a test needs one for what it sees.

        Raises InvalidArgument, AudienceNotFound, UnusableAudience, ContactNotFound, ExpressionFailed, OutOfTime.
        """
        read_at = now()
        audiences = self._with_preloaded(ctx, selection).at(read_at)
        compiled = to_filter(audiences.population(ctx, selection))
        builder = ConditionTreeBuilder(audiences.parse, partial(audiences.definition_of, ctx), audiences.display_names)
        if selection.filter is not None:
            condition = builder.build_filter(selection.filter, selection.filter_path)
        else:
            condition = builder.build_audience(selection.audience_id, selection.audience_id_path, "filter")
        return self._evaluate(ctx, compiled, condition, contact_id, read_at)

    def _with_preloaded(self, ctx: RequestContext, selection: AudienceSelector) -> AudienceResolver:
        """The resolver, with the selected audiences already loaded."""
        if selection.filter is not None:
            return self._audiences.with_preloaded(ctx, (), [selection.filter])
        if selection.audience_id:
            return self._audiences.with_preloaded(ctx, [self._audiences.find(ctx, selection.audience_id)])
        return self._audiences

    def _evaluate(
        self,
        ctx: RequestContext,
        compiled: CompiledFilter,
        condition: ConditionTree,
        contact_id: str,
        read_at: datetime,
    ) -> MembershipExplanation:
        conditions = list(condition.walk())
        populations = [compiled, *(compile_node(compiled.datatype, inner.node) for inner in conditions[1:])]
        paths = [inner.path for inner in conditions if inner.path]
        paths += [timezone.path for inner in conditions for timezone in record_timezones(inner.node)]
        paths = list(dict.fromkeys(paths))
        results = self._checks.evaluate(ctx.org, compiled.datatype, populations, [contact_id], paths, ctx.deadline)
        record = results.records.get(contact_id)
        if record is None:
            raise contact_not_found(f"{compiled.datatype} of the org")
        if isinstance(results.members[0], InvalidFilter):
            raise results.members[0]
        forecaster = ChangeForecaster(read_at, ctx.deadline)
        forecasts = [forecaster.forecast(child.node, record) for child in conditions]
        times_by_index = {
            index: forecast.times
            for index, forecast in enumerate(forecasts)
            if not forecast.unknown and not isinstance(results.members[index], InvalidFilter)
        }
        matched = [not isinstance(found, InvalidFilter) and contact_id in found for found in results.members]
        next_changes = self._find_next_changes(ctx, compiled.datatype, contact_id, conditions, matched, times_by_index)
        errors = [_error_description(found) if isinstance(found, InvalidFilter) else "" for found in results.members]
        outcomes = zip(matched, errors, (next_changes.get(index) for index in range(len(conditions))), strict=True)
        has_values = Scope.EXPORT in ctx.caller.scopes
        measurements = self._measure(ctx, compiled.datatype, contact_id, conditions) if has_values else None
        tree = _evaluated_tree(condition, outcomes, record if has_values else {}, measurements)
        return MembershipExplanation(tree, forecasts[0].unknown, has_values, read_at)

    def _measure(
        self, ctx: RequestContext, datatype: str, contact_id: str, conditions: Sequence[ConditionTree]
    ) -> Iterator[Measurement]:
        """What the relations with a test see, in the order of the conditions."""
        relations = [each.node for each in conditions if isinstance(each.node, Related) and each.node.test]
        return iter(self._checks.measure(ctx.org, datatype, relations, contact_id, ctx.deadline) if relations else ())

    def _find_next_changes(
        self,
        ctx: RequestContext,
        datatype: str,
        contact_id: str,
        conditions: Sequence[ConditionTree],
        matched: Sequence[bool],
        times_by_index: Mapping[int, Sequence[datetime]],
    ) -> Mapping[int, datetime]:
        """By a condition's index, the first forecast time at which the database's answer differs from now."""
        next_changes: dict[int, datetime] = {}
        pending = {index: times for index, times in times_by_index.items() if times}
        max_times = _INITIAL_TIMES
        while pending:
            candidates = [(index, instant) for index, ahead in pending.items() for instant in ahead[:max_times]]
            checks = [
                (index, instant, node)
                for index, instant in candidates
                if (node := _rebase(conditions[index].node, instant))
            ]
            populations = [compile_node(datatype, node) for _, _, node in checks]
            results = self._checks.evaluate(ctx.org, datatype, populations, [contact_id], (), ctx.deadline)
            for (index, instant, _), found in zip(checks, results.members, strict=True):
                if not isinstance(found, InvalidFilter) and (contact_id in found) != matched[index]:
                    next_changes.setdefault(index, instant)
            pending = {index: ahead[max_times:] for index, ahead in pending.items() if index not in next_changes}
            pending = {index: ahead for index, ahead in pending.items() if ahead}
            max_times *= 2
        return next_changes


def _rebase(node: Node, instant: datetime) -> Node | None:
    """The node as of an instant, None if a date in it leaves the years 1 to 9999: the filter is invalid then."""
    try:
        return evaluate_as_of(node, instant)
    except InvalidFilter:
        return None


def _evaluated_tree(
    condition: ConditionTree,
    outcomes: Iterator[tuple[bool, str, datetime | None]],
    record: Record,
    measurements: Iterator[Measurement] | None,
) -> EvaluatedCondition:
    """The condition tree with its outcomes and measurements, both in the order of `walk`; None withholds them."""
    matched, error, next_change_time = next(outcomes)
    value = get_path(record, condition.path.split(".")) if condition.path else MISSING
    if measurements and isinstance(condition.node, Related) and condition.node.test:
        value = next(measurements) or MISSING
    return EvaluatedCondition(
        _in_own_timezone(condition, record) if measurements is not None else condition,
        matched,
        error,
        value,
        next_change_time,
        tuple(_evaluated_tree(child, outcomes, record, measurements) for child in condition.children),
    )


def _in_own_timezone(condition: ConditionTree, record: Record) -> ConditionTree:
    """The condition with its dates described in the timezone that the record names, if it is a single field's."""
    node = condition.node
    if isinstance(node, Condition) and isinstance(node.operand, ZonedOperand):
        stored = get_path(record, node.operand.timezone.path.split("."))
        own = replace(node, operand=node.operand.of_values(stored)[0])
        return replace(condition, description=describe(own, {}))
    if not condition.path or not zoned_dates(node):
        return condition

    def dated(date: ZonedDate) -> ResolvedDate:
        name = date.timezone.names_in(get_path(record, date.timezone.path.split(".")))[0]
        return ResolvedDate.of(date.in_timezone(name), condition.field_path, date.now)

    return replace(condition, description=describe(replace_zoned_dates(node, dated), {}))


def _error_description(error: InvalidFilter) -> str:
    return error.violations[0].description
