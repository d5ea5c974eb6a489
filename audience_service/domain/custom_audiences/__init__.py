"""Custom audiences: uploaded lists, lookalikes and retargeting pixels."""
