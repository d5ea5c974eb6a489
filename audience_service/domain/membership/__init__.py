"""Membership: streams of members, and the audiences of single contacts."""
