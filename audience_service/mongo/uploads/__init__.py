"""Storage of uploads and their rows."""
