"""Slices and overlap regions of populations."""
