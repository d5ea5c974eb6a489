"""What every feature uses and what knows no feature: the request context, errors, page tokens, idempotency, jobs."""
