"""The base of every feature: request context, errors, page tokens, idempotency and jobs. It knows no feature."""
