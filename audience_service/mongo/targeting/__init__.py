"""Storage of the ids of ad platforms."""
