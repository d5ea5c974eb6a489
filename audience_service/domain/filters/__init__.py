"""The filter language: parse a caller's conditions to typed nodes, check them, and compile them to a MongoDB match.

Nothing of the caller's reaches the database unexamined: what is emitted comes from the nodes, and an operator that has
no row in operators.py does not exist.
"""

from audience_service.domain.filters.compile import CompiledFilter, FilterCompiler
from audience_service.domain.filters.filter import Filter, Limits
from audience_service.domain.filters.resolve import FindAudience
from audience_service.domain.filters.struct import fits_struct
from audience_service.domain.filters.text import identity, parse_text, print_text
from audience_service.domain.filters.warnings.warning import FilterWarning

__all__ = [
    "CompiledFilter",
    "Filter",
    "FilterCompiler",
    "FilterWarning",
    "FindAudience",
    "Limits",
    "fits_struct",
    "identity",
    "parse_text",
    "print_text",
]
