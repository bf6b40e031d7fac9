"""The one error the user is meant to read: a sentence that says what is wrong and what to do."""


class PbbError(ValueError):
    """Bad input, a damaged file or an impossible request. The command line prints it and exits with code 2.

    Example:
        >>> import pbb_probe as pbb
        >>> pbb.open_run("nowhere")
        Traceback (most recent call last):
            ...
        pbb_probe.errors.PbbError: There is no run in nowhere: give the directory that pbb-probe run wrote.
    """


def first_line(error: BaseException) -> str:
    """What an error of a library says first, for a sentence of ours around it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
