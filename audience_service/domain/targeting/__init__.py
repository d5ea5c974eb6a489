"""Targeting taxonomies: what a campaign can be aimed at, as nodes with their provenance, and the search of them."""
