"""Metrics, traces and request ids. Every layer may use them; they know no other layer."""
