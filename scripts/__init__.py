"""Scripts of developers: generated code, docs and data."""
