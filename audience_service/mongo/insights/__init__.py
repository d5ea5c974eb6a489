"""Breakdowns of audiences by dimension."""
