"""Samples of an org's records."""
