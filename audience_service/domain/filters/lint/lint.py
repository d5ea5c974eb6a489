"""What a filter can be warned about. None of it keeps a filter from being run."""

from collections.abc import Mapping
from datetime import datetime

from audience_service.domain.filters.ast import Node
from audience_service.domain.filters.field_profile import FieldProfile
from audience_service.domain.filters.lint.fields import field_warnings
from audience_service.domain.filters.lint.stale_dates import find_stale_dates
from audience_service.domain.filters.lint.tautologies import find_tautologies
from audience_service.domain.filters.lint.warning import FilterWarning

MAX_WARNINGS = 100


def lint_filter(
    node: Node, now: datetime, fields: Mapping[str, FieldProfile] | None = None, *, datatype: str = ""
) -> list[FilterWarning]:
    """The warnings about a filter, from its nodes as parsed, 100 at most; one for a place and a reason.

    `fields` are the profiles of the filter's datatype by path in the record; without any, and without the `datatype`,
    there are no warnings that rest on them.
    """
    found = [
        *find_stale_dates(node, now),
        *find_tautologies(node, datatype),
        *(field_warnings(node, fields) if fields else ()),
    ]
    distinct = {(warning.field_path, warning.reason): warning for warning in reversed(found)}
    return list(reversed(distinct.values()))[:MAX_WARNINGS]
