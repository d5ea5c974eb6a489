"""The filter language: parse a caller's conditions to typed nodes, check them, and compile them to a MongoDB match.

The match is built from the checked nodes alone, so every operator in it has a row in operators.py or expressions.py.
"""

from audience_service.domain.filters.audience_inlining import FindAudience
from audience_service.domain.filters.compiler import CompiledFilter, FilterCompiler
from audience_service.domain.filters.extended_json import identity, parse_text, print_text
from audience_service.domain.filters.filter import Filter, FilterLimits
from audience_service.domain.filters.lint.warning import FilterWarning
from audience_service.domain.filters.struct_roundtrip import fits_struct

__all__ = [
    "CompiledFilter",
    "Filter",
    "FilterCompiler",
    "FilterLimits",
    "FilterWarning",
    "FindAudience",
    "fits_struct",
    "identity",
    "parse_text",
    "print_text",
]
