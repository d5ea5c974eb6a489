"""Benchmarks that compare the service with hand-written pymongo code for the same results: `make bench`."""
