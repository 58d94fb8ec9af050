"""The exception that this package raises for unusable weight files."""


class WeightsError(Exception):
    """A weight file cannot be used. The message names the file, the problem and a remedy."""
