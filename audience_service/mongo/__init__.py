"""Storage on MongoDB: the only importer of pymongo. Every method takes the org first and ands its scope in."""
