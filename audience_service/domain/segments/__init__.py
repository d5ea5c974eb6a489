"""Segments: saved filters and static lists, their versions, and the writer that all changes pass through."""
