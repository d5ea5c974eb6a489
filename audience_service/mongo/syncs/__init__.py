"""Syncs on MongoDB."""
