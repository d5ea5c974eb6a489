"""Storage of watches, event logs and member states, and the reader of change streams."""
