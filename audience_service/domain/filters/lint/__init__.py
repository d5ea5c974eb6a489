"""What of a filter is allowed and probably not meant. warnings.py is the way in."""
