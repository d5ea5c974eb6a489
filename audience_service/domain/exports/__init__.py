"""Exports: members as the rows that an ad platform takes."""
