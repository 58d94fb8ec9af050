"""The exception that this package raises for unusable weight files."""


class WeightsError(Exception):
    """A weight file cannot be used; the message gives the reason and a remedy."""
