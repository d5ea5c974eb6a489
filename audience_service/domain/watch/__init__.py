"""Watched audiences: who enters and exits, told once to each watcher, from a ledger."""
