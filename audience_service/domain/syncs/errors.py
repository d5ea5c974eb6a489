"""The errors of syncs; domain/core/errors.py has the others.

AudienceError
└── NotFound
    ├── SyncNotFound
    └── SyncBatchNotFound
"""

from audience_service.domain.core.errors import NotFound


class SyncNotFound(NotFound):
    """The org has no sync with this id."""

    reason = "SYNC_NOT_FOUND"
    kind = "sync"


class SyncBatchNotFound(NotFound):
    """The sync has no batch with this number that was sent, or a reset has discarded it."""

    reason = "SYNC_BATCH_NOT_FOUND"
    kind = "batch of this sync"
