"""What a source is made by: of that its members are told apart surely, and nobody is found who is like them."""

from collections.abc import Iterable

from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.reads import fields_read
from audience_service.domain.lookalikes.fields import LikenessField
from audience_service.domain.ports import Population


def defining(fields: Iterable[LikenessField], source: Population) -> tuple[LikenessField, ...]:
    """Those of the fields that the source's own filter asks about, those of audiences inside it included.

    None of a list: what it was made by is not known.
    """
    if not isinstance(source, CompiledFilter):
        return ()
    asked = [_without_positions(path) for path in fields_read(source.node)]
    return tuple(field for field in fields if any(field.is_at(path) for path in asked))


def _without_positions(path: str) -> str:
    return ".".join(step for step in path.split(".") if not step.isdecimal())
