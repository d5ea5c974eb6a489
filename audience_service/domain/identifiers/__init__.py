"""Identifiers of people as ad platforms take them: which rules there are, and the rows that they make of records."""

from audience_service.domain.identifiers.platforms import choose_rules as choose_rules
from audience_service.domain.identifiers.rows import Identifier as Identifier
from audience_service.domain.identifiers.rows import IdentifierRow as IdentifierRow
