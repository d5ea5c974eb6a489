"""The index of contacts by email address and phone number."""
