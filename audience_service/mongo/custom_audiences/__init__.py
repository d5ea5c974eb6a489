"""Storage of custom audiences."""
