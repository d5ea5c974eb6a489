"""By what an audience is what it is, and whether it is so still."""

from collections.abc import Hashable
from dataclasses import dataclass

from audience_service.domain.audiences.audience import filter_of
from audience_service.domain.audiences.audiences import Audiences
from audience_service.domain.caller import Call
from audience_service.domain.filters import identity
from audience_service.domain.ports import Population
from audience_service.domain.tokens import digest


@dataclass(frozen=True, slots=True)
class Defined:
    """The members of an audience, and by what they are.

    `definition` is a digest of its filter and those of the audiences in it; `versions` are those of the audiences that
    were read for it, lists included.
    """

    members: Population
    definition: str
    versions: Hashable


def read_definition(call: Call, audiences: Audiences, audience_id: str) -> Defined:
    """The members of an audience by its definition now. Raises AudienceNotFound, UnusableAudience."""
    audience = audiences.find(call, audience_id)
    knowing = audiences.knowing(call, [audience])
    read = sorted(knowing.known.items())
    filters = {name: identity(filter_of(each)) for name, each in read}
    versions = tuple((name, each.version) for name, each in read)
    return Defined(knowing.members_of(call, audience), digest(filters), versions)
