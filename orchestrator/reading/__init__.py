"""What finished runs have found: scores, groups of runs, comparisons, tables."""
