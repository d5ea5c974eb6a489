"""Insights: what an audience consists of, beside its org."""
