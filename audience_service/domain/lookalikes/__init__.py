"""Lookalikes: the records most similar to an audience's members, by a model that callers can inspect."""
