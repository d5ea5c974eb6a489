"""Populations: compiled filters and member lists."""

from audience_service.domain.filters.compiler import CompiledFilter
from audience_service.domain.filters.member_list import MemberList

Population = CompiledFilter | MemberList
"""A compiled filter, or a member list. The members of a list are its records that still exist and are not archived."""
