"""The store: folders of results, shards of records, leases."""
