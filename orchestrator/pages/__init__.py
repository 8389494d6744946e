"""HTML pages that need no network: a run, a comparison, a sweep."""
