"""Audiences: resolves ids and selectors to members, and records which consumers use an audience."""
