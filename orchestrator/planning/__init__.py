"""From recipes and a method expression to a plan: settings, stages, keys."""
