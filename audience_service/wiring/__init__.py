"""Builds each feature from the settings and the store; app.py calls these builders."""
