"""Storage of watches, their event logs and member states, and the change streams."""
