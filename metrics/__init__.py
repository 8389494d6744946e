"""Scores of label maps and of maps, as pure functions of int64 confusion matrices."""
