"""Erasure of people: what the service stores of a person is removed, and does not come back."""
