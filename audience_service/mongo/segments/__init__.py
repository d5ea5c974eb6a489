"""Storage of segments and their versions."""
