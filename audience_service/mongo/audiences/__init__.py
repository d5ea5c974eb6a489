"""Storage of member lists and of references to audiences."""
