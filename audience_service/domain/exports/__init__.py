"""Exports: members as rows in the format of an ad platform."""
