"""Snapshots: who was in an audience at a moment, kept."""
