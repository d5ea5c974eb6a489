"""What a source is made by: of that its members are told apart surely, and nobody is found who is like them."""

from collections.abc import Iterable

from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.field_usage import used_fields
from audience_service.domain.filters.population import Population
from audience_service.domain.lookalikes.features import Feature


def leaking_fields(fields: Iterable[Feature], source: Population) -> tuple[Feature, ...]:
    """Those of the fields that the source's own filter asks about, those of audiences inside it included.

    None of a list: what it was made by is not known.
    """
    if not isinstance(source, CompiledFilter):
        return ()
    filter_paths = [_without_positions(path) for path in used_fields(source.node)]
    return tuple(field for field in fields if any(field.covers(path) for path in filter_paths))


def _without_positions(path: str) -> str:
    return ".".join(step for step in path.split(".") if not step.isdecimal())
