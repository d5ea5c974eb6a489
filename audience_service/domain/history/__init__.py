"""History: the members and the size of a watched audience as of an earlier time."""
