"""The embedded store: mongomock behind one lock, with refusals of what it is known to get wrong."""
