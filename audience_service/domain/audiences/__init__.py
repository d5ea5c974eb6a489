"""Audiences: from what a caller names to those who are meant, and who uses it."""
