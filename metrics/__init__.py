"""Scores of label maps and of maps: pure functions, and the stages that apply them to the images of a list.

A score is a file in this folder, a recipe of `kind: score` and a test.
"""
