"""Explanations: a filter in plain words, its query plan, and the reasons for a contact's membership."""
