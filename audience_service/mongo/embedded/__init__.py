"""The embedded store: mongomock with a lock, and with refusals of the filters that it evaluates wrongly."""
