"""Watches: every entry to and exit from an audience, once, in order, from an event log."""
