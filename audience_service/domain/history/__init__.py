"""History: the members and the size of a watched audience at an earlier time."""
