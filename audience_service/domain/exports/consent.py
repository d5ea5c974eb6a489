"""Who has consented: a filter, as any other, over the fields in which an org records consent."""

from collections.abc import Sequence

from audience_service.domain.core.clock import now
from audience_service.domain.filters import CompiledFilter, Limits
from audience_service.domain.filters.ast import Nor
from audience_service.domain.filters.compiler import compile_node
from audience_service.domain.filters.filter import Document
from audience_service.domain.filters.parser import parse
from audience_service.domain.schema.projection import Projection

NO_CONSENT = "no_consent"
"""The reason of those who have not consented."""

_CONSENT_WORDS = ("granted", "yes", "true")
_CONSENT = [True, *(form for word in _CONSENT_WORDS for form in (word, word.capitalize(), word.upper()))]


def without_consent(datatype: str, fields: Sequence[str]) -> CompiledFilter:
    """Who lacks consent in any of the fields. Raises InvalidArgument at `consent_fields[i]`."""
    paths = Projection.parse(fields, "consent_fields").record_paths
    where = {"$and": [condition for path in paths for condition in _consented(path)]}
    node = parse(where, "consent_fields", Limits(), exact=True, now=now())
    return compile_node(datatype, Nor((node,)), "consent_fields")


def _consented(path: str) -> list[Document]:
    """One value says so: a list, at the path or on the way to it, may hold the contrary too."""
    steps = path.split(".")
    no_lists = [{".".join(steps[:depth]): {"$not": {"$type": "array"}}} for depth in range(2, len(steps) + 1)]
    return [{path: {"$in": _CONSENT}}, *no_lists]
