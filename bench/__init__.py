"""How fast the service is beside hand-written pymongo that gives the same answers, in the same run: `make bench`."""
