"""The one exception that means: the user's input is wrong, and the message says how to put it right."""


class SnceError(ValueError):
    """Bad input. The command line prints its message in one line and exits with code 2."""
