"""The results of finished runs: scores, groups of runs, comparisons, tables."""
