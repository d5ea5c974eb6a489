"""The schema of an org's records: which fields a filter can read, with their types and values."""
