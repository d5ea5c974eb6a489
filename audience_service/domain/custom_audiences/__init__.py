"""Custom audiences: uploaded lists, lookalikes, and visitors by event records."""
