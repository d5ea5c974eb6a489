"""Targeting taxonomies: the values that campaigns can target, as nodes with their sources, and their search."""
