"""Explanations: what a filter says, how it is answered, and why a contact is in."""
