"""The consent filter: conditions on the fields in which an org records consent."""

from collections.abc import Sequence

from audience_service.domain.core.clock import now
from audience_service.domain.filters import CompiledFilter, FilterLimits
from audience_service.domain.filters.ast import Nor
from audience_service.domain.filters.compiler import compile_node
from audience_service.domain.filters.filter import Document
from audience_service.domain.filters.parser import parse
from audience_service.domain.filters.values import ValueReader
from audience_service.domain.identifiers.attributes import GRANTED
from audience_service.domain.schema.projection import Projection

NO_CONSENT = "no_consent"
"""The exclusion reason of members without consent."""


def without_consent(datatype: str, fields: Sequence[str]) -> CompiledFilter:
    """The filter for records that lack consent in any of the fields. Raises InvalidArgument at `consent_fields[i]`."""
    paths = Projection.parse(fields, "consent_fields").record_paths
    where = {"$and": [condition for path in paths for condition in _consented(path)]}
    node = parse(where, "consent_fields", ValueReader(FilterLimits(), exact=True, timestamp=now()))
    return compile_node(datatype, Nor((node,)), "consent_fields")


def _consented(path: str) -> list[Document]:
    """The conditions of consent at a path: a single value grants it. A list could contain both a yes and a no."""
    steps = path.split(".")
    no_lists = [{".".join(steps[:depth]): {"$not": {"$type": "array"}}} for depth in range(2, len(steps) + 1)]
    return [{path: {"$in": list(GRANTED)}}, *no_lists]
