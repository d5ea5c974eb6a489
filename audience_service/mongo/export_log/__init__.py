"""The export log on MongoDB."""
