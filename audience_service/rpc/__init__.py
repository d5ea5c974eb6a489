"""The gRPC layer: authentication, decoding, encoding and error statuses. Knows the domain, never the storage."""
