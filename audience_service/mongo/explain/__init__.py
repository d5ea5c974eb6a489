"""How the database answers a filter."""
