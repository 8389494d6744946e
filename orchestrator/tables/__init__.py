"""The papers' tables and figures as commands: their rows as runs, and ours beside the published values."""
