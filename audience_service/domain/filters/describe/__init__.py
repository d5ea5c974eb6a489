"""Descriptions of filters in plain English. Start at sentence.py; each row of operators.py has its phrase."""
