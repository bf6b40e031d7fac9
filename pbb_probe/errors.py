"""The one error the user is meant to read: a sentence that says what is wrong and what to do."""


class PbbError(ValueError):
    """Bad input, a damaged file or an impossible request. The command line prints it and exits with code 2."""
