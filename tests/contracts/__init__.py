"""Tests that every component of a kind must pass. They run over all recipes, so a new recipe needs no line here."""
