"""Snapshots: the members of an audience at one time, stored."""
