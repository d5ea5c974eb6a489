"""What an explain document says, in whichever shape the database gives it.

MongoDB has several: the plan at the top, or in the `$cursor` of the first of `stages`, or one of either for each of
`shards`; the stages of its classic engine, or of its other one (SBE) below `queryPlan`. Source: MongoDB manual, explain
results.
"""

import itertools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from audience_service.domain.explain.query_plan import ExecutionStats, PlanKind
from audience_service.mongo.core.scope import org_scope

Document = Mapping[str, Any]

_INDEX_STAGES = frozenset(
    ("IXSCAN", "COUNT_SCAN", "DISTINCT_SCAN", "EXPRESS_IXSCAN", "CLUSTERED_IXSCAN", "EXPRESS_CLUSTERED_IXSCAN")
)
_ID_STAGES = frozenset(("IDHACK", "EXPRESS_IDHACK"))
_ALTERNATIVES = frozenset(("OR", "SORT_MERGE"))
"""Stages that read by each of their inputs: an index narrows only where one narrows each of them."""
_JOINS = frozenset(("EQ_LOOKUP", "EQ_LOOKUP_UNWIND", "NESTED_LOOP_JOIN", "HASH_JOIN", "MERGE_JOIN"))
"""Stages whose first input are the filter's records; the others are what they are joined with."""
_COUNTS = frozenset(("group", "block_group", "hash_agg", "count"))
_INPUTS = ("outerStage", "inputStage", "thenStage", "innerStage", "elseStage")
_NO_BOUNDS = ("[MinKey, MaxKey]", "(MinKey, MaxKey)")


@dataclass(frozen=True, slots=True)
class ParsedExplain:
    """A plan's kind, the indexes that narrow, and, where it was run, what it took."""

    kind: PlanKind
    index: str
    execution_stats: ExecutionStats | None


def parse_explain(document: Document, org: str, field_names: Collection[str]) -> ParsedExplain:
    """What an explain says of a count.

    `names` are the fields that the filter names: an index on another narrows nothing, and neither does one on sk whose
    bounds are the org's range.
    """
    parts = list(_parts(document))
    narrowing = [_narrowing_indexes(plan, org, field_names) for part in parts if (plan := _plan(part))]
    indexes = dict.fromkeys(name for names_of_part in narrowing for name in names_of_part)
    kind = PlanKind.INDEX if narrowing and all(narrowing) else PlanKind.SCAN
    return ParsedExplain(kind, ", ".join(indexes) if kind is PlanKind.INDEX else "", _execution_stats(parts))


def execution_failure(document: Document) -> tuple[str, int] | None:
    """The message and code of an execution that failed, which some servers tell in the document."""
    for part in _parts(document):
        statistics = _cursor(part).get("executionStats") or {}
        if statistics.get("executionSuccess") is False:
            return str(statistics.get("errorMessage", "")), int(statistics.get("errorCode", 0))
    return None


def _parts(document: Document) -> Iterator[Document]:
    """The explain of each shard, or the one that there is."""
    if shards := document.get("shards"):
        for part in shards.values():
            yield from _parts(part)
    else:
        yield document


def _cursor(part: Document) -> Document:
    """Where the plan and its statistics are."""
    stages = part.get("stages")
    return next((value for name, value in stages[0].items() if name.endswith("ursor")), part) if stages else part


def _plan(part: Document) -> Document:
    winning: Document = _cursor(part).get("queryPlanner", {}).get("winningPlan", {})
    plan: Document = winning.get("queryPlan", winning)
    return plan


def _inputs(stage: Document) -> list[Document]:
    single = [stage[name] for name in _INPUTS if name in stage]
    of_shards = [part.get("winningPlan") or part.get("executionStages") for part in stage.get("shards", ())]
    return [*single, *stage.get("inputStages", ()), *filter(None, of_shards)]


def _narrowing_indexes(stage: Document, org: str, field_names: Collection[str]) -> list[str]:
    """The indexes that narrow the records down before a stage, none where it reads all of the org's."""
    kind = stage.get("stage", "")
    if kind in _ID_STAGES:
        return ["_id_"]
    if kind in _INDEX_STAGES:
        return [str(stage.get("indexName", "_id_"))] if _restricts(stage, org, field_names) else []
    inputs = _inputs(stage)[:1] if kind in _JOINS else _inputs(stage)
    found = [_narrowing_indexes(one, org, field_names) for one in inputs]
    if kind in _ALTERNATIVES and not all(found):
        return []
    return [name for of_input in found for name in of_input]


def _restricts(stage: Document, org: str, field_names: Collection[str]) -> bool:
    keys = stage.get("keyPattern") or {}
    # The quick plans of MongoDB 8 tell their keys as text.
    fields = re.findall(r'"?([\w.]+)"?\s*:', keys) if isinstance(keys, str) else list(keys)
    if not fields:
        return True  # the collection itself, clustered by _id
    return any(
        field in field_names and _is_bounded(_bounds(stage, field, fields), field, org, is_leading=position == 0)
        for position, field in enumerate(fields)
    )


def _is_bounded(bounds: str | None, field: str, org: str, *, is_leading: bool) -> bool:
    if bounds is None:
        return is_leading and field != "sk"
    if field == "sk":
        scope = org_scope(org)["sk"]
        return not bounds.startswith(f'["{scope["$gte"]}", ') or not bounds.endswith((f'"{scope["$lt"]}")', "{ })"))
    return bounds not in _NO_BOUNDS


def _bounds(stage: Document, field: str, fields: Sequence[str]) -> str | None:
    """The intervals of one field, None where they are not told."""
    bounds = stage.get("indexBounds")
    if not bounds:
        return None
    if isinstance(bounds, Mapping):
        if "startKey" in bounds:
            start, end = bounds["startKey"].get(field), bounds["endKey"].get(field)
            return f"[{_format_bound(start)}, {_format_bound(end)}{']' if bounds.get('endKeyInclusive') else ')'}"
        return ", ".join(bounds[field]) if field in bounds else None
    # One text for each combination of intervals: ["a": [1, 1], "b": [2, 3)].
    later = [f'"{other}": ' for other in fields[fields.index(field) + 1 :]]
    return ", ".join(dict.fromkeys(_text_between(text, f'"{field}": ', later[:1]) for text in bounds))


def _text_between(text: str, start: str, ends: Sequence[str]) -> str:
    rest = text.partition(start)[2]
    return rest.partition(f", {ends[0]}")[0] if ends else rest.removesuffix("]")


def _format_bound(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).removesuffix("()")


def _execution_stats(parts: Sequence[Document]) -> ExecutionStats | None:
    statistics = [_cursor(part).get("executionStats") for part in parts]
    if not statistics or not all(statistics):
        return None
    matched_counts = [_matched_count(part) for part in parts]
    return ExecutionStats(
        documents_examined=_total(parts, "totalDocsExamined"),
        keys_examined=_total(parts, "totalKeysExamined"),
        matched=None if None in matched_counts else sum(count for count in matched_counts if count is not None),
        milliseconds=max(_elapsed_milliseconds(part) for part in parts),
    )


def _total(parts: Sequence[Document], name: str) -> int:
    """What the plans have examined, and the lookups behind them."""
    lookup_stages = (stage for part in parts for stage in part.get("stages", ())[1:])
    return sum(int(_cursor(part)["executionStats"].get(name, 0)) for part in parts) + sum(
        int(stage.get(name, 0)) for stage in lookup_stages
    )


def _elapsed_milliseconds(part: Document) -> int:
    estimates = (int(stage.get("executionTimeMillisEstimate", 0)) for stage in part.get("stages", ()))
    return max(int(_cursor(part)["executionStats"].get("executionTimeMillis", 0)), *estimates, 0)


def _matched_count(part: Document) -> int | None:
    """How many records have come to where they are counted."""
    stages = part.get("stages", ())
    for before, stage in itertools.pairwise(stages):
        if "$group" in stage:
            cursor = _cursor(part) if before is stages[0] else {}
            returned_count = before.get("nReturned", cursor.get("executionStats", {}).get("nReturned"))
            return None if returned_count is None else int(returned_count)
    count = _first_count(_cursor(part)["executionStats"].get("executionStages", {}))
    if count is None:
        return None
    inputs = _inputs(count)
    return int(inputs[0].get("nReturned", 0)) if inputs else int(count.get("nCounted", 0))


def _first_count(stage: Document) -> Document | None:
    if str(stage.get("stage", "")).lower() in _COUNTS:
        return stage
    return next((found for one in _inputs(stage) if (found := _first_count(one))), None)
