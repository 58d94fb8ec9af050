"""Describe an exception in one line."""

from __future__ import annotations


def error_line(error: BaseException, hint: str = "") -> str:
    """Return one line: the message, with the type of unexpected errors.

    hint: what to do about an error of unknown cause, in parentheses at the end.
    """
    text, package = " ".join(str(error).split()), __name__.split(".")[0]
    if type(error).__module__.split(".")[0] == package:  # the package's own errors have complete messages
        return text
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{str(error.filename)[:200]}: {error.strerror}; check the name, the permissions and the disk"
    return f"{type(error).__name__}: {text or 'no more is known'}{hint and f' ({hint})'}"
