"""Maps protobuf messages to domain values and back, one module per feature."""
