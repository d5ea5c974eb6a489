"""Counts, scores and members of lookalikes."""
