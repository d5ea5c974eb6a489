"""Members of audiences: counts, streams, checks and partitions."""
