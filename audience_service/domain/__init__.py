"""Use cases and plain dataclasses. Imports neither grpc nor pymongo; the bson value types stand in filters alone."""
