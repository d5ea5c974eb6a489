"""Uploads: files that become the lists of custom audiences, their rows matched to contacts."""
