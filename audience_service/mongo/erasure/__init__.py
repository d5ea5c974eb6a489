"""The storage of erasures, and the removal from every collection."""
