"""Scripts of developers: generated code and docs, data and the HTTP gateway."""
