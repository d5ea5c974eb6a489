"""The names of the collections, and what their documents contain."""

SEGMENTS = "segment"
"""Segments, in the platform's record envelope: like every collection of the platform, named for the datatype."""

LISTS = "audience_member"
"""Member lists: {_id: "<audience>/<sk>", audience, pk, sk}, one document for each record on a list. pk and sk are the
record's own, so the tenant scope, the order and the join with the record use sk here too. Snapshots add expire_at;
their `audience` is "<snapshot>.<attempt>", followed by "!<reason>" for records that were left out."""

SNAPSHOTS = "audience_snapshot"
"""Manifests of snapshots in the platform's envelope, {_id: sk, ...}; mongo/snapshots/documents.py shows the rest."""

CUSTOM_AUDIENCES = "custom"
"""Custom audiences, in the platform's envelope, {_id: sk, ...}; mongo/custom_audiences/documents.py has the rest.
LISTS has the rows of their lists, with "<audience>.<8 characters>" as `audience`, and `since` if an upload added them.
"""

UPLOADS = "audience_upload"
"""The progress of uploads; mongo/uploads/documents.py shows the fields. LISTS has the contacts that an upload matched,
with the `line` of the file that added them."""

UPLOAD_ROWS = "audience_upload_row"
"""Rows of uploads that have matched nobody; mongo/uploads/unmatched_rows.py shows them."""

IDENTIFIERS = "audience_identifier"
"""What records are matched by: {_id: "<rule>/<sk>", rule, pk, sk, source, key, expire_at}; `key` is a digest of an
email or phone number, `source` a hash of all that it is made of."""

VERSIONS = "segment_version"
"""Segments as they were: each record before it was written over, to the letter but for `_id`, "<sk>/<version>", and
for the filter, which those with `omits_filter` have from the next one above."""

USES = "audience_use"
"""Registered uses: {_id: sk, sk: "<org>/audience_use/<audience>/<kind>/<user>", audience, kind, user, description,
author, createdate, calls}; `calls` is how often it was registered."""

PARTITIONS = "audience_partition"
"""Where populations are cut into parts: {_id: sk, sk: "<org>/audience_partition/<digest>/<count>", keys, used_at,
expire_at}; a part ends with a key, up to the last, which has no end."""

WATCHES = "audience_watch"
"""Watched audiences, one record each: {_id: sk, sk: "<org>/audience_watch/<audience>", audience, expires_at, lease,
lease_until, watch_epoch, seq, last_event_at, watermark, retained_from, definition, failure, stale_epochs};
domain/watch/model.py explains each."""

EVENTS = "audience_event"
"""The event log: {_id: "<watch epoch>/<seq in 12 digits>", seq, pk, sk, change, cause, at}; pk and sk are the record's
own."""

MEMBER_STATES = "audience_member_state"
"""Member states: {_id: "<watch epoch>/<sk>", pk, sk, member, seq}. A record that exited stays, with `member` false.
`seq` is its last event, 0 for a record that was a member when the watch epoch began."""

PLATFORM_IDS = "audience_platform_ids"
"""The ids that ad platforms know nodes of the taxonomies by: {_id: platform, version, imported_at, files, ids: {node:
id}, unlinked}. They are no tenant's and have no sk."""

SUBSCRIBERS = "subscriber"
"""The platform's records of who may be reached: {data: {email, phone, channel, status}}."""
