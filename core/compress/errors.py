"""The error of a model that cannot be compressed."""


class CompressionError(Exception):
    """A model cannot be compressed, or loses too much quality.

    The message is one line with the reason and the fix.
    """
