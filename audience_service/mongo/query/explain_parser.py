"""Reads explain documents, in every shape that MongoDB returns.

The plan is at the top, or in the `$cursor` of the first of `stages`; with `shards`, each shard has one of these. The
stages are those of the classic engine or, below `queryPlan`, of the slot-based engine (SBE). Source: MongoDB manual,
explain results.
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
"""Stages that read all of their inputs. They are narrowed only if an index narrows every input."""
_JOINS = frozenset(("EQ_LOOKUP", "EQ_LOOKUP_UNWIND", "NESTED_LOOP_JOIN", "HASH_JOIN", "MERGE_JOIN"))
"""Stages whose first input is the filter's records. The other inputs are the joined records."""
_COUNTS = frozenset(("group", "block_group", "hash_agg", "count"))
_INPUTS = ("outerStage", "inputStage", "thenStage", "innerStage", "elseStage")
_NO_BOUNDS = ("[MinKey, MaxKey]", "(MinKey, MaxKey)")


@dataclass(frozen=True, slots=True)
class ParsedExplain:
    """A plan's kind, the indexes that narrow it and, if it was executed, its statistics."""

    kind: PlanKind
    index: str
    execution_stats: ExecutionStats | None


def parse_explain(document: Document, org: str, field_names: Collection[str]) -> ParsedExplain:
    """Return the plan of an explained count.

    `field_names` are the fields in the filter. An index narrows the plan only if it is on one of them. An index on sk
    with the org's range as bounds does not narrow it.
    """
    parts = list(_parts(document))
    narrowing = [_narrowing_indexes(plan, org, field_names) for part in parts if (plan := _plan(part))]
    indexes = dict.fromkeys(name for names_of_part in narrowing for name in names_of_part)
    kind = PlanKind.INDEX if narrowing and all(narrowing) else PlanKind.SCAN
    return ParsedExplain(kind, ", ".join(indexes) if kind is PlanKind.INDEX else "", _execution_stats(parts))


def execution_failure(document: Document) -> tuple[str, int] | None:
    """Return the message and code of a failed execution, which some servers report in the document, or None."""
    for part in _parts(document):
        statistics = _cursor(part).get("executionStats") or {}
        if statistics.get("executionSuccess") is False:
            return str(statistics.get("errorMessage", "")), int(statistics.get("errorCode", 0))
    return None


def _parts(document: Document) -> Iterator[Document]:
    """Yield the explain of each shard, or the only one."""
    if shards := document.get("shards"):
        for part in shards.values():
            yield from _parts(part)
    else:
        yield document


def _cursor(part: Document) -> Document:
    """Return the part with the plan and its statistics."""
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
    """Return the indexes that narrow a stage's input, or an empty list if it reads all of the org's records."""
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
    # The express plans of MongoDB 8 report their keys as text.
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
    """Return the intervals of a field, or None if the plan does not report them."""
    bounds = stage.get("indexBounds")
    if not bounds:
        return None
    if isinstance(bounds, Mapping):
        if "startKey" in bounds:
            start, end = bounds["startKey"].get(field), bounds["endKey"].get(field)
            return f"[{_format_bound(start)}, {_format_bound(end)}{']' if bounds.get('endKeyInclusive') else ')'}"
        return ", ".join(bounds[field]) if field in bounds else None
    # One string for each combination of intervals: ["a": [1, 1], "b": [2, 3)].
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
    """Return the total over the plans and the lookups after them."""
    lookup_stages = (stage for part in parts for stage in part.get("stages", ())[1:])
    return sum(int(_cursor(part)["executionStats"].get(name, 0)) for part in parts) + sum(
        int(stage.get(name, 0)) for stage in lookup_stages
    )


def _elapsed_milliseconds(part: Document) -> int:
    estimates = (int(stage.get("executionTimeMillisEstimate", 0)) for stage in part.get("stages", ()))
    return max(int(_cursor(part)["executionStats"].get("executionTimeMillis", 0)), *estimates, 0)


def _matched_count(part: Document) -> int | None:
    """Return the number of records that reached the counting stage, or None if the plan does not report it."""
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
