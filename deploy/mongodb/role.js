// Creates the least-privilege role of the service, or replaces its privileges, in the database that mongosh connects to:
//
//     mongosh "mongodb://admin@db.internal/crm" deploy/mongodb/role.js
//
// Then create a user for it: db.createUser({user: "audience", pwd: passwordPrompt(), roles: ["audienceService"]}).
// The command `indexes` needs createIndex as well: grant it the role audienceIndexes, with a user of its own.
// Change `read` if AUDIENCE_DATATYPES or AUDIENCE_RELATED_DATATYPES differ from their defaults.
const read = ["contact", "lead", "customer", "order", "event", "company", "subscriber"];
const own = [
  "segment", "audience_member", "audience_snapshot", "custom", "audience_upload", "audience_upload_rejection",
  "audience_upload_row", "audience_identifier", "segment_version", "audience_use", "audience_partition",
  "audience_watch", "audience_event", "audience_member_state", "audience_platform_ids", "audience_platform_tree",
  "audience_erasure",
  "audience_sync", "audience_sync_row", "audience_sync_member", "audience_sync_batch",
  "audience_export",
];
const readActions = ["find", "listIndexes", "changeStream"];
const writeActions = ["find", "insert", "update", "remove", "listIndexes"];
const indexActions = ["createIndex", "listIndexes"];
const databaseActions = ["listCollections"];

const name = db.getName();
const on = (actions) => (collection) => ({resource: {db: name, collection}, actions});

function setRole(role, privileges) {
  if (db.getRole(role)) {
    db.updateRole(role, {privileges, roles: []});
  } else {
    db.createRole({role, privileges, roles: []});
  }
}

setRole("audienceService", [on(databaseActions)(""), ...read.map(on(readActions)), ...own.map(on(writeActions))]);
setRole("audienceIndexes", [on(databaseActions)(""), ...[...read, ...own].map(on(indexActions))]);
