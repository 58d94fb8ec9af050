"""The one error of this folder."""


class WeightsError(Exception):
    """A weight file cannot be used. The message names the file, says what it looks like, and the way out."""
