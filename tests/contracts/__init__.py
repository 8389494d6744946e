"""What holds of every component of a kind, run over all recipes: a new recipe is tested here without a line of its own."""
