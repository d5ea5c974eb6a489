"""Fields: what the records of an org hold, and what filters can be about."""
