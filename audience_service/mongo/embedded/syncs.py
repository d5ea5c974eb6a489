"""The rows of syncs in a store that cannot compare them."""

from typing import Any

from audience_service.domain.core.errors import UnsupportedByStore


class EmbeddedSyncRows:
    """The SyncRowRepository of a store without $lookup by lists of keys. Every method raises UnsupportedByStore."""

    def _refuse(self, *_: Any) -> Any:
        raise UnsupportedByStore("the embedded store cannot compare the rows of syncs; use a MongoDB to run a sync")

    check_supported = mark = drop = compare = has_candidates = assign = count = count_blocked = _refuse
    stream = digests = apply = clear = _refuse


class EmbeddedSyncMembers:
    """The SyncMemberRepository of the same store."""

    _refuse = EmbeddedSyncRows._refuse
    read = find_changed = find_rows = find_shared_rows = insert = start = replace = count = clear = _refuse
