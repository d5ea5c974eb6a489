"""Syncs: lists of ad platforms that are kept equal to audiences."""
