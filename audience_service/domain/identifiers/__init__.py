"""Identifiers of people in the formats of ad platforms: the rules, and the rows of records."""

from audience_service.domain.identifiers.platforms import choose_rules as choose_rules
from audience_service.domain.identifiers.rows import IdentifierExtractor as IdentifierExtractor
from audience_service.domain.identifiers.rows import IdentifierRow as IdentifierRow
