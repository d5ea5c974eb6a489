"""Storage of snapshots and their rows."""
