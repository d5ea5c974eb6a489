"""Queries: pipelines, joins, and the choice of how to read a filter."""
