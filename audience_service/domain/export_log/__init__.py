"""The export log: which calls sent members, and to whom."""
