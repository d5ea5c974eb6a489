"""The wire: who calls, what they send, how answers and errors look. Knows the domain, never the storage."""
