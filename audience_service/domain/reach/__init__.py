"""Reach: the number of members of one audience, and the overlap of several audiences."""
