"""Storage on MongoDB, the only importer of pymongo. Every method takes the org first, and queries only its records."""
