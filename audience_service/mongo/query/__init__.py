"""Queries: pipelines, joins and what decides how a filter is read."""
