"""HTML pages that need no network: a run, a comparison, a sweep."""

SAMPLES = 24  # images of each list that a comparison and a table show, unless another number is asked for
