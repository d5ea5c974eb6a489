"""Label leakage: fields that the source's filter tests identify its members, and find no similar records.

Every member of "tags: vip" has that tag. The field would separate the seed with certainty, and decorrelation would
remove every other field, so that no new record qualifies.
"""

from collections.abc import Iterable

from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.field_usage import used_fields
from audience_service.domain.filters.population import Population
from audience_service.domain.lookalikes.features import Feature


def leaking_fields(fields: Iterable[Feature], source: Population) -> tuple[Feature, ...]:
    """The fields that the source's filter tests, including the filters of audiences inside it.

    Empty if the source is a list, because the origin of a list is unknown.
    """
    if not isinstance(source, CompiledFilter):
        return ()
    filter_paths = [_without_positions(path) for path in used_fields(source.node)]
    return tuple(field for field in fields if any(field.covers(path) for path in filter_paths))


def _without_positions(path: str) -> str:
    return ".".join(step for step in path.split(".") if not step.isdecimal())
