"""Warnings about filters that are valid but probably not meant. Start at the table in lint.py."""
