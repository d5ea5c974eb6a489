"""One servicer per proto service. Each method decodes, delegates to a use case, and encodes."""
