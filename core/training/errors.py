"""The one error of training."""


class TrainingError(Exception):
    """Training cannot begin or go on. The message names the setting, the file or the number, and the way out."""
