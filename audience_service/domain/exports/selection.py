"""The members of an export, with the purpose and the consent of ads."""

from collections.abc import Sequence
from dataclasses import replace

from audience_service.domain.audiences.selection import AudienceSelector
from audience_service.domain.audiences.selection_resolver import ResolvedSelection, SelectionResolver
from audience_service.domain.core.context import RequestContext
from audience_service.domain.exports.consent_filter import NO_CONSENT, without_consent

_PURPOSE = "ads"


def resolve_members(
    ctx: RequestContext, resolver: SelectionResolver, selection: AudienceSelector, consent_fields: Sequence[str]
) -> ResolvedSelection:
    """The members to send, and the exclusions; missing consent is the last one. Raises as `resolve` does."""
    resolved_selection = resolver.resolve(ctx, replace(selection, purpose=selection.purpose or _PURPOSE))
    if not consent_fields:
        return resolved_selection
    lacking = without_consent(resolved_selection.candidates.datatype, consent_fields)
    return resolver.subtract(resolved_selection, NO_CONSENT, lacking)
