"""The one exception for what a person can put right."""


class WrongInput(ValueError):
    """Something the user gave is wrong; the message is one sentence: what, where, and what would be right."""
