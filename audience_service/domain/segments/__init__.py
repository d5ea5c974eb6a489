"""Segments: saved filters and frozen lists, their versions, and the one way to write them."""
