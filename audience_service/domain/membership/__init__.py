"""Membership: who is in."""
