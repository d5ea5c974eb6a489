"""One servicer per proto service: decode, delegate to a use case, encode."""
