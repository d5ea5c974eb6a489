"""Insights: the composition of an audience, compared with its org."""
