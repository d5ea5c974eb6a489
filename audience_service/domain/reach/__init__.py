"""Reach: how many members there are, in how many audiences at once."""
