"""The one error of this folder."""


class CompressionError(Exception):
    """A model cannot be compressed, or lost too much by it. The message says why, in one line, and the way out."""
