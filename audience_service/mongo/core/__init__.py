"""What every repository uses: the client, collections, indexes, errors, tenant scope and pages."""
