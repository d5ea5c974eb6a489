"""The names of the collections, and what their documents contain."""

SEGMENTS = "segment"
"""Segments, in the platform's record envelope. The platform names every collection after its datatype."""

LISTS = "audience_member"
"""Member lists: {_id: "<audience>/<sk>", audience, pk, sk}, one document for each record on a list.

pk and sk are those of the record, so sk also serves the tenant scope, the order and the join with the record. Snapshots
add expire_at. Their `audience` is "<snapshot>.<attempt>", followed by "!<reason>" for excluded records.
"""

SNAPSHOTS = "audience_snapshot"
"""Manifests of snapshots in the platform's envelope, {_id: sk, ...}. See mongo/snapshots/documents.py."""

CUSTOM_AUDIENCES = "custom"
"""Custom audiences in the platform's envelope, {_id: sk, ...}. See mongo/custom_audiences/documents.py.

The rows of their lists are in LISTS, with "<audience>.<8 characters>" as `audience`. Rows from an upload add `since`.
"""

UPLOADS = "audience_upload"
"""The progress of uploads. See mongo/uploads/documents.py.

The contacts that an upload matched are in LISTS, with the `line` of the file that added them.
"""

UPLOAD_REJECTIONS = "audience_upload_rejection"
"""Rejected rows of uploads, without their content. See mongo/uploads/rejected_rows.py."""

UPLOAD_ROWS = "audience_upload_row"
"""Rows of uploads that matched no contact. See mongo/uploads/unmatched_rows.py."""

IDENTIFIERS = "audience_identifier"
"""Match keys of records: {_id: "<rule>/<sk>", rule, pk, sk, source, key, expire_at}.

`key` has a digest of each email address or phone number, and `source` a hash of the fields that the keys are derived
from.
"""

VERSIONS = "segment_version"
"""Versions of segments: exact copies of each record before it was overwritten, with two exceptions.

`_id` is "<sk>/<version>". A version with `omits_filter` has the filter of the next higher version that stores one.
"""

USES = "audience_use"
"""Registered uses: {_id: sk, sk: "<org>/audience_use/<audience>/<kind>/<consumer id>", audience, kind, consumer_id,
description, author, createdate, registration_count}; `registration_count` is how often it was registered."""

PARTITIONS = "audience_partition"
"""Partitions of populations: {_id: sk, sk: "<org>/audience_partition/<digest>/<count>", keys, used_at, expire_at}.

Each key is the last sk of one partition. The last partition is unbounded.
"""

WATCHES = "audience_watch"
"""Watched audiences: {_id: sk, sk: "<org>/audience_watch/<audience>", audience, expires_at, lease, lease_until,
watch_epoch, seq, last_event_at, watermark, retained_from, definition, failure, stale_epochs}.

domain/history/model.py explains each field.
"""

EVENTS = "audience_event"
"""The event log: {_id: "<watch epoch>/<seq in 12 digits>", seq, pk, sk, change, cause, at}.

pk and sk are those of the record.
"""

MEMBER_STATES = "audience_member_state"
"""Member states: {_id: "<watch epoch>/<sk>", pk, sk, member, seq}.

A record that exited keeps its document, with `member` false. `seq` is its last event, or 0 if it has been a member
since the watch epoch began.
"""

SYNCS = "audience_sync"
"""Syncs in the platform's envelope, {_id: sk, ...}. See mongo/syncs/documents.py."""

SYNC_BATCHES = "audience_sync_batch"
"""Batches of syncs, without their rows. See mongo/syncs/documents.py."""

SYNC_ROWS = "audience_sync_row"
"""Rows that syncs have sent or will send. See mongo/syncs/rows.py."""

SYNC_MEMBERS = "audience_sync_member"
"""What the comparisons of syncs know of members. See mongo/syncs/members.py."""

EXPORTS = "audience_export"
"""The export log: calls that sent members. See mongo/export_log/repository.py."""

PLATFORM_IDS = "audience_platform_ids"
"""The current imports of ad platforms: {_id: platform, version, imported_at, files, unlinked, trees}.

`trees` has the size and the kinds of the platform's own trees of this version. All orgs share them, so they have no sk.
"""

PLATFORM_TREES = "audience_platform_tree"
"""The contents of imports: the platforms' own trees, {_id: "<platform>/<version>/<taxonomy>/<key>", ...}, and the ids
of the nodes of taxonomies, {_id: "<platform>/<version>/ids", ids: {node: id}}.

domain/targeting/platform_tree.py explains the keys. All orgs share them, so they have no sk.
"""

SUBSCRIBERS = "subscriber"
"""The platform's records of consent per address and channel: {data: {email, phone, channel, status}}."""

ERASURES = "audience_erasure"
"""Tombstones of erased people: {_id: sk, sk: "<org>/audience_erasure/<keyed hash>", keys, sealed, erased_at,
changed_at, sweep_until, lease_until}.

`changed_at` is a time of the database's clock. `sweep_until` is unset after the last removal.

`keys` are keyed hashes of ids, addresses and numbers. `sealed` is encrypted. See domain/erasure/model.py.
"""
