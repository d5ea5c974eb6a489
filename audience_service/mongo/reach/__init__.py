"""Samples, slices and overlap regions."""
