"""Uploads: CSV files whose rows are matched to contacts and published as lists of custom audiences."""
