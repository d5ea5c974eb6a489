"""Between protobuf messages and domain values, one module per feature."""
