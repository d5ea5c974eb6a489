"""A filter in words: sentences of phrases of values. sentence.py is the way in; operators.py has a phrase a row."""
