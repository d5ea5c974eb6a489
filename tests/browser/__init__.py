"""Tests of the audience builder in a browser, which `make test-browser` runs and plain `pytest` leaves out."""
